//! One case of the bench without Python, so that a profiler sees nothing else:
//! `perf record -g target/release/examples/bench ingest gso=0 seconds=5`.

use std::collections::HashMap;
use tongshi_media::bench::{self, BenchOptions, Case};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let case = Case::from_name(&name).ok_or("the first argument is the name of a case")?;
    let mut map = HashMap::new();
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or("options are name=number")?;
        map.insert(key.to_owned(), value.parse()?);
    }
    for (name, value) in
        bench::run(case, &BenchOptions::from_map(&map)?).map_err(|error| format!("{error:?}"))?
    {
        println!("{name} {value}");
    }
    Ok(())
}
