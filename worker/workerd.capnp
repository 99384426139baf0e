# The Worker in bare workerd: for tests, and for whoever runs it without Cloudflare.
#
#   workerd serve worker/workerd.capnp --directory-path storage=DIRECTORY --socket-addr http=127.0.0.1:8787
#
# with the secrets in the environment: CONVEXINFRA_MASTER_KEY, CONVEXINFRA_INIT_SECRET, FLY_API_TOKEN.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "control-plane", worker = .controlPlane),
    (name = "storage", disk = (path = "storage", writable = true)),
    (name = "outside", network = (allow = ["public", "private", "local"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8787", http = (), service = "control-plane")],
);

const controlPlane :Workerd.Worker = (
  modules = [
    (name = "index.js", esModule = embed "bundle/index.js"),
    (name = "index_bg.wasm", wasm = embed "bundle/index_bg.wasm"),
  ],
  compatibilityDate = "2026-01-01",
  bindings = [
    (name = "CATALOG", durableObjectNamespace = "Catalog"),
    (name = "PROJECTS", durableObjectNamespace = "Project"),
    (name = "CONVEXINFRA_MASTER_KEY", fromEnvironment = "CONVEXINFRA_MASTER_KEY"),
    (name = "CONVEXINFRA_INIT_SECRET", fromEnvironment = "CONVEXINFRA_INIT_SECRET"),
    (name = "FLY_API_TOKEN", fromEnvironment = "FLY_API_TOKEN"),
    (name = "FLY_ORG", fromEnvironment = "FLY_ORG"),
    (name = "CONVEXINFRA_ALLOW_IMAGES", fromEnvironment = "CONVEXINFRA_ALLOW_IMAGES"),
    (name = "CONVEXINFRA_FLY_API", fromEnvironment = "CONVEXINFRA_FLY_API"),
  ],
  durableObjectNamespaces = [
    (className = "Catalog", uniqueKey = "convexinfra-catalog", enableSql = true),
    (className = "Project", uniqueKey = "convexinfra-project", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "storage"),
  globalOutbound = "outside",
);
