//! The Python face: arguments in, errors out, the interpreter released while waiting. No policy.
//!
//! The contract, with units, is `src/tongshi/_media.pyi`.

mod arguments;
mod engine;
mod figures;
mod sender;

use crate::bench;
use arguments::python_error;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::HashMap;

pyo3::create_exception!(_media, OfferRefused, PyValueError);

/// One measured round of one case.
#[pyfunction]
fn bench_media(py: Python<'_>, case: &str, options: HashMap<String, f64>) -> PyResult<HashMap<String, f64>> {
    let case = bench::Case::from_name(case).ok_or_else(|| PyValueError::new_err(format!("case: {case}")))?;
    let options = bench::BenchOptions::from_map(&options)
        .map_err(|name| PyValueError::new_err(format!("no such option: {name}")))?;
    let figures = py.detach(|| bench::run(case, &options)).map_err(|e| python_error(&e, ""))?;
    Ok(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[pymodule]
fn _media(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SOURCE_DIGEST", env!("SOURCE_DIGEST"))?;
    module.add("OfferRefused", module.py().get_type::<OfferRefused>())?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<sender::PsSender>()?;
    module.add_function(wrap_pyfunction!(sender::ps_mux, module)?)?;
    module.add_function(wrap_pyfunction!(sender::ps_demux, module)?)?;
    module.add_function(wrap_pyfunction!(bench_media, module)?)
}
