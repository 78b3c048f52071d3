# The image of workers and dashboard. Where torch comes from is the build argument TORCH_INDEX: the
# address of a package index, such as PyTorch's for processors without a GPU, whose torch is a tenth
# of the size. Empty: pip's own index.

# The versions are those that pyproject.toml holds for everybody; torch and torchvision are the newest
# of that index, which has builds of its own.
# What we depend on changes seldom: this layer is kept while only our code changes.
FROM python:3.11-slim AS dependencies
RUN python3 -m venv /opt/fmnist-hpo
ENV PATH=/opt/fmnist-hpo/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
print(*p['project']['dependencies'], *p['project']['optional-dependencies']['s3'], sep='\n'); \
print(*(pin for pin in p['tool']['uv']['constraint-dependencies'] if not pin.startswith('torch')), \
sep='\n', file=open('constraints.txt', 'w'))" > requirements.txt \
    && grep -E '^torch(vision)?[^a-z]' requirements.txt > torch.txt
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt -r torch.txt \
    && pip install -c constraints.txt -r requirements.txt


FROM dependencies AS build
COPY LICENSE README.md ./
COPY search search
COPY fmnist_hpo fmnist_hpo
COPY studies studies
RUN pip wheel --no-deps --wheel-dir /wheels .


FROM python:3.11-slim
# The directories must be there and be the user's, as a new volume takes over what it covers.
RUN useradd --create-home --uid 10001 fmnist \
    && install -d -o fmnist -g fmnist /home/fmnist/runs /home/fmnist/.cache \
        /home/fmnist/.cache/fmnist-hpo
ENV PATH=/opt/fmnist-hpo/bin:$PATH
COPY --from=dependencies /opt/fmnist-hpo /opt/fmnist-hpo
COPY --from=build /wheels /wheels
RUN pip install --no-index --no-deps /wheels/*.whl && rm -r /wheels
COPY docker-entrypoint.sh /usr/local/bin/
USER fmnist
WORKDIR /home/fmnist
STOPSIGNAL SIGTERM
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["--help"]
