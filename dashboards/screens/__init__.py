"""The pages: one file a page, each with one function `page` that draws it.

The folder must not be called `pages`: Streamlit would serve the files of such a folder by itself, past `app.py`.
"""
