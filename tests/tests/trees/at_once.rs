//! Resumes of one image that are started at the same moment: one has the old ids, the others have namespaces.

use crate::grown::{Grown, How, IMAGE, end_all, reaped, said};
use crate::{Place, Test, times};
use ckpt_tests::moments::Moments;
use ckpt_tests::script::{self, Shape};
use ckpt_tests::{Outcome, Stopped, tools};
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[("at_once::one_has_the_ids", one_has_the_ids)];

fn one_has_the_ids(place: &Place<'_>) -> Outcome<()> {
    const COPIES: usize = 4;
    let mut moments = Moments::new("copies start at once");
    let script = script::write(Shape { living: 5, steps: 10 }, &mut moments);
    let saved = Grown::start(place, &script, How::Job)?.save(place)?;
    let loader = place.tools.program("ckpt-loader");
    let line = format!("for i in $(seq {COPIES}); do {} {IMAGE} --detach & done; wait", loader.display());
    let root = saved.roots.first().ok_or("it has no root")?;
    let mut kept = 0;
    for _ in 0..times(10) {
        let mut reaper = reaped(place, How::Job, &["/bin/sh", "-c", &line])?.spawn()?;
        let said = said(place, COPIES, Duration::from_secs(20))?;
        end_all(reaper.id());
        tools::wait(&mut reaper, Duration::from_secs(20))?;
        let pids: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
        let with_old = pids.iter().filter(|pid| *pid == root).count();
        if pids.len() != COPIES || with_old > 1 {
            return Err(Stopped::Failed(format!(
                "{} copies run, {with_old} with the old id: {said}",
                pids.len()
            )));
        }
        kept += with_old;
    }
    // Somebody else may have had it now and then.
    if kept == 0 { Err(Stopped::Failed("no copy ever had the old id".to_owned())) } else { Ok(()) }
}
