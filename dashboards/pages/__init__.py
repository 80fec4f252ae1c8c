"""The pages: one file a page, each with one function `page` that draws it."""
