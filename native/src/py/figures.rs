//! Figures and events as dictionaries.

use crate::engine::{Description, PortStats, StreamStats, ViewerStats};
use crate::events::Event;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

pub(super) fn event_dict<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", event.kind.name())?;
    dict.set_item("stream", &*event.stream)?;
    dict.set_item("id", event.id)?;
    dict.set_item("at_ms", event.at_ms)?;
    dict.set_item("detail", &*event.detail)?;
    Ok(dict)
}

pub(super) fn stats_dict<'py>(py: Python<'py>, stats: &StreamStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("stream", &stats.stream)?;
    dict.set_item("transport", stats.transport.name())?;
    dict.set_item("ssrc", stats.ssrc)?;
    dict.set_item("video_codec", stats.video_codec)?;
    dict.set_item("audio_codec", stats.audio_codec)?;
    dict.set_item("audio_rate_hz", stats.audio_rate_hz)?;
    dict.set_item("width", stats.width)?;
    dict.set_item("height", stats.height)?;
    dict.set_item("packets", stats.packets)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("lost", stats.lost)?;
    dict.set_item("reordered", stats.reordered)?;
    dict.set_item("duplicates", stats.duplicates)?;
    dict.set_item("malformed", stats.malformed)?;
    dict.set_item("foreign_ssrc", stats.foreign_ssrc)?;
    dict.set_item("frames", stats.frames)?;
    dict.set_item("key_frames", stats.key_frames)?;
    dict.set_item("viewers", stats.viewers)?;
    dict.set_item("relays", stats.relays)?;
    dict.set_item("opened_ms", stats.opened_ms)?;
    dict.set_item("first_packet_ms", stats.first_packet_ms)?;
    dict.set_item("first_key_frame_ms", stats.first_key_frame_ms)?;
    dict.set_item("last_packet_ms", stats.last_packet_ms)?;
    let quality = &stats.quality;
    dict.set_item("window_ms", quality.window_ms)?;
    dict.set_item("bitrate_kbps", quality.bitrate_kbps)?;
    dict.set_item("frame_rate", quality.frame_rate)?;
    dict.set_item("loss_rate", quality.loss_rate)?;
    dict.set_item("jitter_ms", quality.jitter_ms)?;
    dict.set_item("delay_ms", quality.delay_ms)?;
    dict.set_item("report_delay_ms", quality.report_delay_ms)?;
    dict.set_item("key_interval_ms", quality.key_interval_ms)?;
    dict.set_item("gop_bytes", stats.gop_bytes)?;
    dict.set_item("kernel_drops", stats.kernel_drops)?;
    dict.set_item("backlog_bytes", stats.backlog_bytes)?;
    Ok(dict)
}

pub(super) fn port_dict<'py>(py: Python<'py>, stats: &PortStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("streams", stats.streams)?;
    dict.set_item("unknown", stats.unknown)?;
    dict.set_item("arrived", stats.arrived)?;
    dict.set_item("kernel_drops", stats.memory.drops)?;
    dict.set_item("backlog_bytes", stats.memory.backlog_bytes)?;
    Ok(dict)
}

pub(super) fn description_dict<'py>(py: Python<'py>, found: &Description) -> PyResult<Bound<'py, PyDict>> {
    let sets: Vec<_> = found.parameter_sets.iter().map(|set| PyBytes::new(py, set)).collect();
    let dict = PyDict::new(py);
    dict.set_item("video_codec", found.video_codec)?;
    dict.set_item("parameter_sets", sets)?;
    dict.set_item("audio_codec", found.audio_codec)?;
    let config = found.aac.map(|aac| (aac.rate_hz(), aac.channels, aac.audio_specific_config()));
    let (rate_hz, channels, config) = config.unwrap_or_default();
    dict.set_item("aac_rate_hz", rate_hz)?;
    dict.set_item("aac_channels", channels)?;
    dict.set_item("aac_config", PyBytes::new(py, if rate_hz == 0 { &[] } else { &config }))?;
    Ok(dict)
}

pub(super) fn viewer_dict<'py>(py: Python<'py>, stats: &ViewerStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", stats.id)?;
    dict.set_item("stream", &stats.stream)?;
    dict.set_item("container", stats.container)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("frames", stats.frames)?;
    dict.set_item("skipped", stats.skipped)?;
    dict.set_item("queued_bytes", stats.queued_bytes)?;
    dict.set_item("reported_loss_rate", stats.reported.map(|r| r.loss_rate))?;
    dict.set_item("reported_lost", stats.reported.map(|r| r.lost))?;
    dict.set_item("reported_jitter", stats.reported.map(|r| r.jitter))?;
    Ok(dict)
}
