"""A page of all results below a folder, to look at in a browser.

records  which results lie there, what their records say, what was not made and why
page     all of it in one HTML file that needs nothing else; page.html is what it is made of
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "page": ["PAGE_NAME", "refresh_page", "write_page"],
    },
)
