"""The Streamlit app for operators: one file a page."""
