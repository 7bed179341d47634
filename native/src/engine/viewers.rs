//! The viewers of a stream on sockets of their own: joining, listening, flushing, leaving.

use super::context::{Context, Interest, Part};
use super::stream::Stream;
use super::Result;
use crate::events::Kind;
use crate::net::{self, Ready};
use crate::viewer::datagrams::PACE_MS;
use crate::viewer::{Ending, Viewer};
use std::time::{SystemTime, UNIX_EPOCH};

/// How often a viewer that takes nothing is looked at.
const STALL_CHECK_MS: f64 = 500.0;

fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl Stream {
    /// Serve one viewer. The socket is closed when this fails.
    pub fn attach(&mut self, context: &mut Context, mut viewer: Viewer) -> Result<()> {
        let id = viewer.id;
        let interest = if viewer.listens() { Interest::Both } else { Interest::Output };
        viewer.token = context.watch(net::fd(viewer.socket()), interest, self.key, Part::Viewer(id))?;
        for fd in viewer.report_fds() {
            match context.watch(fd, Interest::Input, self.key, Part::Viewer(id)) {
                Ok(token) => viewer.report_tokens.push((fd, token)),
                Err(error) => {
                    forget(context, &viewer);
                    return Err(error.into());
                }
            }
        }
        if let Some(at_ms) = viewer.silent_at_ms() {
            context.care_at(context.now_ms + at_ms);
        }
        context.viewer_joined(id, self.key);
        let gop_bytes = context.options.gop_bytes;
        let (now_ms, wall_ms) = (context.now_ms, wall_clock_ms());
        self.outlets.join(viewer, self.pipeline.gop(), gop_bytes, now_ms, wall_ms);
        self.await_picture(context);
        self.flush(context);
        Ok(())
    }

    pub fn viewers(&self) -> impl Iterator<Item = &Viewer> {
        self.outlets.viewers()
    }

    pub(super) fn on_viewer_ready(&mut self, context: &mut Context, ready: Ready, id: u64) {
        let Some(viewer) = self.outlets.viewers_mut().find(|v| v.id == id) else { return };
        if ready.token != viewer.token {
            return viewer.listen_to_reports(context.now_ms);
        }
        viewer.unblock();
        if ready.readable {
            viewer.heard(context.now_ms);
        }
        let heard = if ready.readable && viewer.listens() { viewer.listen() } else { Ok(()) };
        if let Err(ending) = heard {
            self.end_viewer(context, id, ending);
        } else if ready.hung_up {
            self.end_viewer(context, id, Ending::Eof);
        }
    }

    /// Close a viewer and tell why.
    pub fn end_viewer(&mut self, context: &mut Context, id: u64, ending: Ending) {
        let Some(mut viewer) = self.outlets.leave(id) else { return };
        viewer.take_leave(ending, context.now_ms);
        forget(context, &viewer);
        context.viewer_left(id);
        context.announce(Kind::ViewerClosed, &self.name, id, ending.name());
    }

    pub(super) fn flush_viewers(&mut self, context: &mut Context) {
        let mut ended = Vec::new();
        let (mut is_waiting, mut is_paced) = (false, false);
        for viewer in self.outlets.viewers_mut().filter(|v| v.wants_flush()) {
            if let Err(ending) = viewer.flush(context.now_ms) {
                ended.push((viewer.id, ending));
            }
            is_waiting |= viewer.is_waiting();
            is_paced |= viewer.is_paced();
        }
        if is_paced {
            context.care_in(PACE_MS);
        }
        if is_waiting {
            context.care_in(STALL_CHECK_MS.min(context.options.viewer_stall_ms));
        }
        for (id, ending) in ended {
            self.end_viewer(context, id, ending);
        }
    }

    /// End who takes nothing and who is silent.
    pub(super) fn drop_lost(&mut self, context: &mut Context) {
        let stall_ms = context.options.viewer_stall_ms;
        let is_silent = |v: &Viewer| v.silent_at_ms().is_some_and(|at| at <= context.now_ms);
        let lost: Vec<(u64, Ending)> = self
            .outlets
            .viewers()
            .filter_map(|v| match v.has_stalled(context.now_ms, stall_ms) {
                true => Some((v.id, Ending::Stalled)),
                false => is_silent(v).then_some((v.id, Ending::Silent)),
            })
            .collect();
        for (id, ending) in lost {
            self.end_viewer(context, id, ending);
        }
        if let Some(at_ms) = self.outlets.viewers().filter_map(Viewer::silent_at_ms).reduce(f64::min) {
            context.care_at(at_ms);
        }
        if self.outlets.viewers().any(Viewer::is_waiting) {
            context.care_in(STALL_CHECK_MS.min(stall_ms));
        }
    }
}

/// Stop watching what belongs to a viewer.
fn forget(context: &mut Context, viewer: &Viewer) {
    context.forget(net::fd(viewer.socket()), viewer.token);
    for &(fd, token) in &viewer.report_tokens {
        context.forget(fd, token);
    }
}
