//! One test of those that are run by libtest-mimic, and its end if it never comes to one.

use crate::tools::Tools;
use crate::{Outcome, Stopped, aftermath};
use libtest_mimic::{Completion, Failed, Trial};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A test that takes longer hangs: many times what the longest one needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// The test `name`, which may say something when it has passed. Without `shared`, tests are only listed.
///
/// One that hangs has failed, and what runs in a folder of its name is killed; its thread is left where it is.
pub fn trial<T: Send + Sync + 'static>(
    name: &str,
    shared: Option<Arc<T>>,
    body: impl FnOnce(&T) -> Outcome<Option<String>> + Send + 'static,
) -> Trial {
    trial_within(PATIENCE, name, shared, body)
}

fn trial_within<T: Send + Sync + 'static>(
    patience: Duration,
    name: &str,
    shared: Option<Arc<T>>,
    body: impl FnOnce(&T) -> Outcome<Option<String>> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, {
        let name = name.to_owned();
        move || {
            let shared = shared.ok_or("it was only to be listed")?;
            let (ended, outcome) = mpsc::channel();
            std::thread::spawn(move || ended.send(body(&shared)));
            match outcome.recv_timeout(patience) {
                Ok(Ok(said)) => {
                    if let Some(said) = said {
                        println!("{name}: {said}");
                    }
                    Ok(Completion::Completed)
                }
                Ok(Err(Stopped::Skipped(reason))) => Ok(Completion::ignored_with(reason)),
                Ok(Err(Stopped::Failed(reason))) => Err(Failed::from(reason)),
                Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failed::from("it has panicked")),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let left = aftermath::end_all_in(&Tools::root().join(&name));
                    Err(Failed::from(format!(
                        "it did not end within {} s; these still ran:{left}",
                        patience.as_secs()
                    )))
                }
            }
        }
    })
}

/// The exit status of a whole run, whose folder is removed if nothing failed.
pub fn conclude(conclusion: &libtest_mimic::Conclusion, tools: Option<&Tools>) -> std::process::ExitCode {
    match tools {
        Some(_) if conclusion.has_failed() => println!("what they left: {}", Tools::root().display()),
        Some(tools) => tools.remove(),
        None => {}
    }
    conclusion.exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libtest_mimic::Arguments;

    #[test]
    fn one_that_hangs_has_failed() {
        let arguments = Arguments { logfile: Some("/dev/null".to_owned()), ..Arguments::default() };
        let sleeps = trial_within(Duration::from_millis(50), "sleeps", Some(Arc::new(())), |()| {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(None)
        });
        let ends = trial("ends", Some(Arc::new(())), |()| Ok(None));
        let conclusion = libtest_mimic::run(&arguments, vec![sleeps, ends]);
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 1));
    }
}
