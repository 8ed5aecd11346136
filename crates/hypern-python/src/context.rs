//! `ctx`: a place for one request's values.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hypern_core::presence::Presence;
use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::engine::Engine;

/// Values that belong to one request, its id, and a sleep that ends when the client leaves.
#[pyclass(frozen, module = "hypern")]
pub(crate) struct Context {
    engine: Arc<Engine>,
    presence: Arc<Presence>,
    /// A future of the event loop that is done once the client has left.
    left: PyOnceLock<Py<PyAny>>,
    values: OnceLock<Py<PyDict>>,
    request_id: PyOnceLock<Py<PyString>>,
}

impl Context {
    pub(crate) fn new(engine: Arc<Engine>, presence: Arc<Presence>) -> Self {
        Self {
            engine,
            presence,
            left: PyOnceLock::new(),
            values: OnceLock::new(),
            request_id: PyOnceLock::new(),
        }
    }

    fn values<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        if let Some(values) = self.values.get() {
            return values.bind(py);
        }
        // Made outside of the lock: making a dict may run the garbage collector, and with it any Python code.
        let values = PyDict::new(py).unbind();
        self.values.get_or_init(|| values).bind(py)
    }

    fn find<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.values.get() {
            Some(values) => values.bind(name.py()).get_item(name),
            None => Ok(None),
        }
    }
}

#[pymethods]
impl Context {
    /// The value of that name, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        name: &Bound<'py, PyString>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(name)?.or(default))
    }

    /// Keeps a value under a name.
    fn set(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.values(name.py()).set_item(name, value)
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        match self.values.get() {
            Some(values) => values.bind(name.py()).contains(name),
            None => Ok(false),
        }
    }

    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.find(name)?.ok_or_else(|| absent(name))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // Otherwise `ctx.get = 1` would be kept and never be seen again, because the method wins.
        if slf.get_type().hasattr(name)? {
            return Err(PyAttributeError::new_err(format!(
                "ctx.{name} is part of Context: take another name, or ctx.set({:?}, ...)",
                name.to_string_lossy()
            )));
        }
        slf.get().set(name, value)
    }

    fn __delattr__(&self, name: &Bound<'_, PyString>) -> PyResult<()> {
        if self.find(name)?.is_none() {
            return Err(absent(name));
        }
        self.values(name.py()).del_item(name)
    }

    /// 32 hexadecimal digits that no other request has; the server's log has them too.
    #[getter]
    pub(crate) fn request_id<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyString>> {
        // Made on demand: most requests never need one, and the system's randomness takes a call.
        let made = self.request_id.get_or_try_init(py, || {
            let random = py.import(intern!(py, "os"))?.call_method1(intern!(py, "urandom"), (16,))?;
            let digits = random.call_method0(intern!(py, "hex"))?;
            Ok::<_, PyErr>(digits.cast_into::<PyString>()?.unbind())
        })?;
        Ok(made.bind(py))
    }

    /// The application.
    #[getter]
    fn app<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.engine.application.bind(py)
    }

    /// Sleeps, at most until the client leaves; `await` the result in async code.
    ///
    /// True if the whole time has passed, False if the client has left. A client that leaves its stream also cancels
    /// the task of an async source.
    fn sleep<'py>(&self, py: Python<'py>, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
        static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let duration = Duration::try_from_secs_f64(seconds).map_err(|_| {
            PyValueError::new_err(format!("seconds must be a finite number from 0 on, got {seconds}"))
        })?;
        let running_loop = RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?.call0()?;
        if running_loop.is_none() {
            let presence = &self.presence;
            let whole = py.detach(|| presence.wait_timeout(duration));
            return Ok(whole.into_pyobject(py)?.to_owned().into_any());
        }
        if !running_loop.is(&self.engine.event_loop) {
            return py.import("asyncio")?.call_method1("sleep", (seconds, true));
        }
        let left = self
            .left
            .get_or_try_init(py, || self.engine.future(py, |callback| self.presence.on_leave(callback)))?;
        self.engine.tasks.bind(py).call_method1(intern!(py, "sleep"), (seconds, left))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Context {} {}>", self.request_id(py)?, self.values(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.values.get())
    }
}

#[cold]
fn absent(name: &Bound<'_, PyString>) -> PyErr {
    PyAttributeError::new_err(format!(
        "ctx.{name} has not been set: set it with ctx.{name} = ..., or read it with ctx.get({:?})",
        name.to_string_lossy()
    ))
}
