//! A route as the bridge sees it: what to call, with what, and where.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// An argument that a handler may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    Request,
    Response,
    Context,
}

/// Compiled from a handler and its middleware by `hypern.routing`.
#[pyclass(frozen, module = "hypern._hypern")]
pub(crate) struct Endpoint {
    pub(crate) call: Py<PyAny>,
    pub(crate) arguments: Vec<Argument>,
    /// The call returns a coroutine for the event loop; otherwise it runs on a thread.
    pub(crate) on_loop: bool,
    /// The coroutine may wait for something, so it needs a task.
    pub(crate) suspends: bool,
    /// The body is read by the handler, chunk by chunk.
    pub(crate) stream_body: bool,
    /// How many bytes of a body are read ahead of the handler.
    pub(crate) max_body_size: usize,
}

#[pymethods]
impl Endpoint {
    #[new]
    #[pyo3(signature = (call, *, arguments, on_loop, suspends, max_body_size, stream_body=false))]
    fn new(
        call: Py<PyAny>,
        arguments: &Bound<'_, PyTuple>,
        on_loop: bool,
        suspends: bool,
        max_body_size: usize,
        stream_body: bool,
    ) -> PyResult<Self> {
        let arguments = arguments
            .iter()
            .map(|argument| match argument.extract::<usize>()? {
                0 => Ok(Argument::Request),
                1 => Ok(Argument::Response),
                2 => Ok(Argument::Context),
                other => Err(PyValueError::new_err(format!(
                    "an argument is 0 (req), 1 (res) or 2 (ctx), not {other}"
                ))),
            })
            .collect::<PyResult<_>>()?;
        Ok(Self { call, arguments, on_loop, suspends, stream_body, max_body_size })
    }
}
