"""What is loaded, and how large is the gap?"""

import streamlit as st

st.title("Inference")
