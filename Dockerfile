# The dashboard in a container. docs/deployment.md says how to run it.
# A machine with an NVIDIA GPU needs the NVIDIA container toolkit; torch from the package index brings its own CUDA.
FROM python:3.11-slim

WORKDIR /app
COPY requirements.txt constraints.txt ./
# torch first and alone, so that what depends on it finds it there and pulls no other build.
RUN python -m pip install --no-cache-dir -c constraints.txt 'torch>=2.10'
RUN python -m pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY app.py ./
COPY .streamlit ./.streamlit
COPY pages ./pages
COPY shifamind_core ./shifamind_core

# Logits and jobs: a volume, or they go with the container. Its owner is who runs the dashboard, and that is not root.
RUN useradd --create-home --uid 1000 shifamind && mkdir /cache && chown shifamind /cache
USER shifamind
ENV SHIFAMIND_CACHE=/cache PYTHONUNBUFFERED=1
VOLUME /cache
EXPOSE 8501

# Other containers and the host reach it by this address, so a token has to be given: -e SHIFAMIND_TOKEN=…
CMD ["python", "-m", "shifamind_core", "serve", "--host", "0.0.0.0", "--port", "8501", "--address", "http://localhost:8501"]
