"""Figures on a page: full width, in the page's theme, with a description for those who do not see them."""

import inspect

import streamlit as st

from shifamind_core.figures.style import chart_config
