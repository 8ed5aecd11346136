//! `Server`: a runtime, a listener and the routes, driven by `hypern.app`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use hypern_core::router::Router;
use hypern_core::server::{self, Limits, Site};
use hypern_core::watch::Watch;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use crate::bridge::{self, Inbox, resolve};
use crate::dispatch::Application;
use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// The most threads that drive connections. They never run Python, and what keeps them busy is made by one interpreter.
const MAX_TOKIO_THREADS: usize = 4;

/// How long generators may still run their `finally` after the shutdown deadline.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// One server in one process.
#[pyclass(frozen, module = "hypern._hypern")]
pub(crate) struct Server {
    application: Py<PyAny>,
    on_error: Py<PyAny>,
    max_threads: usize,
    limits: Limits,
    phase: Mutex<Phase>,
}

enum Phase {
    Preparing(Preparation),
    Serving(Service),
    Ended,
}

#[derive(Default)]
struct Preparation {
    router: Router<Arc<Py<Endpoint>>>,
    fallback: Option<Arc<Py<Endpoint>>>,
    listener: Option<std::net::TcpListener>,
}

struct Service {
    runtime: Runtime,
    engine: Arc<Engine>,
    stop: Option<oneshot::Sender<()>>,
    /// The future that `shutdown` has returned.
    ended: Option<Py<PyAny>>,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*, app, on_error, max_threads, shutdown_timeout))]
    fn new(app: Py<PyAny>, on_error: Py<PyAny>, max_threads: usize, shutdown_timeout: f64) -> PyResult<Self> {
        let shutdown_timeout = Duration::try_from_secs_f64(shutdown_timeout).map_err(|error| {
            PyValueError::new_err(format!("shutdown_timeout must be seconds >= 0: {error}"))
        })?;
        if max_threads == 0 {
            return Err(PyValueError::new_err("max_threads must be at least 1"));
        }
        Ok(Self {
            application: app,
            on_error,
            max_threads,
            limits: Limits { shutdown_timeout, ..Limits::default() },
            phase: Mutex::new(Phase::Preparing(Preparation::default())),
        })
    }

    fn add_route(&self, method: &str, path: &str, endpoint: Py<Endpoint>) -> PyResult<()> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| PyValueError::new_err(format!("{method:?} is not an HTTP method")))?;
        self.prepare(|preparation| {
            let inserted = preparation.router.insert(method, path, Arc::new(endpoint));
            inserted.map_err(|error| PyValueError::new_err(error.to_string()))
        })
    }

    fn set_fallback(&self, endpoint: Py<Endpoint>) -> PyResult<()> {
        self.prepare(|preparation| {
            preparation.fallback = Some(Arc::new(endpoint));
            Ok(())
        })
    }

    fn bind(&self, host: &str, port: u16) -> PyResult<(String, u16)> {
        let listener = (host, port)
            .to_socket_addrs()
            .and_then(|mut addresses| {
                addresses.next().ok_or_else(|| std::io::Error::other("the name has no address"))
            })
            .and_then(server::bind)
            .map_err(|error| {
                PyOSError::new_err((error.raw_os_error(), format!("cannot listen on {host}:{port}: {error}")))
            })?;
        let address: SocketAddr = listener.local_addr()?;
        self.prepare(|preparation| {
            preparation.listener = Some(listener);
            Ok((address.ip().to_string(), address.port()))
        })
    }

    fn start(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut phase = this.phase.lock();
        let Phase::Preparing(preparation) = &mut *phase else {
            return Err(PyRuntimeError::new_err("the server has been started already"));
        };
        let preparation = std::mem::take(preparation);
        let Some(listener) = preparation.listener else {
            return Err(PyRuntimeError::new_err("call bind before start"));
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(tokio_threads())
            .thread_name("hypern-tokio")
            .enable_all()
            .build()?;
        let engine = Engine::new(
            this.application.clone_ref(py),
            this.on_error.clone_ref(py),
            this.max_threads,
            runtime.handle().clone(),
            event_loop,
        )?;
        let inbox = Bound::new(py, Inbox(engine.bridge.clone()))?;
        event_loop.call_method1("add_reader", (engine.bridge.descriptor(), inbox))?;
        bridge::set_current(&engine);
        let (stop, stopped) = oneshot::channel();
        let serving = Serving {
            listener,
            site: Arc::new(Site {
                router: preparation.router,
                fallback: preparation.fallback,
                handler: Application { engine: engine.clone(), watch: Watch::new() },
            }),
            limits: this.limits,
            server: slf.clone().unbind(),
        };
        runtime.spawn(serving.run(stopped));
        *phase = Phase::Serving(Service { runtime, engine, stop: Some(stop), ended: None });
        Ok(())
    }

    fn shutdown(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut phase = self.phase.lock();
        let Phase::Serving(service) = &mut *phase else {
            return Err(PyRuntimeError::new_err("the server does not run"));
        };
        if let Some(ended) = &service.ended {
            return Ok(ended.clone_ref(py));
        }
        let ended = service.engine.new_future(py)?;
        service.ended = Some(ended.clone_ref(py));
        if let Some(stop) = service.stop.take() {
            stop.send(()).ok();
        }
        Ok(ended)
    }

    fn abort(&self, py: Python<'_>) {
        self.end(py);
    }
}

impl Server {
    fn prepare<T>(&self, change: impl FnOnce(&mut Preparation) -> PyResult<T>) -> PyResult<T> {
        match &mut *self.phase.lock() {
            Phase::Preparing(preparation) => change(preparation),
            _ => Err(PyRuntimeError::new_err("the server has been started already")),
        }
    }

    /// Completes the future of `shutdown`, while the bridge still works: tasks may have something left to await. Only on
    /// the loop.
    fn drained(&self, py: Python<'_>) {
        let (ended, threads) = match &*self.phase.lock() {
            Phase::Serving(Service { engine, ended: Some(ended), .. }) => {
                (ended.clone_ref(py), engine.pool.active())
            }
            _ => return,
        };
        complete(py, &ended, threads);
    }

    /// Stops everything that still runs, and completes the future of `shutdown`. Only on the loop.
    fn end(&self, py: Python<'_>) {
        let Phase::Serving(service) = std::mem::replace(&mut *self.phase.lock(), Phase::Ended) else {
            return;
        };
        let Service { runtime, engine, stop: _, ended } = service;
        runtime.shutdown_background();
        let removed = engine.event_loop.bind(py).call_method1("remove_reader", (engine.bridge.descriptor(),));
        if let Err(error) = removed {
            error.write_unraisable(py, None);
        }
        bridge::clear_current();
        engine.pool.close();
        if let Some(ended) = ended {
            complete(py, &ended, engine.pool.active());
        }
    }
}

fn complete(py: Python<'_>, ended: &Py<PyAny>, threads: usize) {
    let threads = threads.into_pyobject(py).map(|threads| threads.into_any().unbind());
    resolve(py, ended, threads.map_err(Into::into));
}

/// Half of the cores, since Python needs the other half. On two cores a second thread costs a quarter more CPU time an
/// event: each wakes the other for work that it has done before the other is there.
fn tokio_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, MAX_TOKIO_THREADS)
}

/// What runs on Tokio from `start` to the end of `shutdown`.
struct Serving {
    listener: std::net::TcpListener,
    site: Arc<Site<Application>>,
    limits: Limits,
    server: Py<Server>,
}

impl Serving {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let Self { listener, site, limits, server } = self;
        let engine = site.handler.engine.clone();
        let watch = site.handler.watch.clone();
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "cannot listen"),
        };
        let watching = tokio::spawn({
            let watch = watch.clone();
            async move { watch.run().await }
        });
        let waking = tokio::spawn({
            let engine = engine.clone();
            async move { engine.wake_after_dispatch().await }
        });
        let (began, beginning) = oneshot::channel();
        let shutdown = async move {
            stopped.await.ok();
            began.send(Instant::now()).ok();
        };
        server::serve(listener, site, watch, limits, shutdown).await;
        watching.abort();
        if let Ok(began) = beginning.await {
            let deadline = (began + limits.shutdown_timeout).max(Instant::now() + LAST_MOMENT);
            engine.pool.idle(deadline).await;
        }
        waking.abort();
        let bridge = engine.bridge.clone();
        bridge.post(Box::new(move |py| server.get().drained(py)));
    }
}
