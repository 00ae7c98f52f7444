//! Random scripts for `targets/tree.c`.

use crate::moments::Moments;
use std::fmt::Write;

/// No script makes more tasks than this, counting those that end.
const TASKS_MAX: usize = 200;

/// How a script is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many tasks live at its end, or a few less.
    pub living: usize,
    /// How many steps there are beside those that make them.
    pub steps: usize,
}

/// What is known of a task while the script is written.
#[derive(Clone, Copy, Debug)]
struct Known {
    parent: usize,
    lives: bool,
    /// Whether its parent may still wait for it.
    waits: bool,
}

/// Writes a script.
pub fn write(shape: Shape, moments: &mut Moments) -> String {
    let mut draft =
        Draft { tasks: vec![Known { parent: 0, lives: true, waits: false }], text: String::new(), moments };
    if draft.below(10) < 7 {
        draft.line(0, "subreaper 1");
    }
    let makes = shape.living.max(2) - 1;
    for step in 0..makes + shape.steps {
        // The rest of the tasks in the rest of the steps.
        let missing = shape.living.saturating_sub(draft.living().len());
        if draft.below(makes + shape.steps - step) < missing {
            draft.make();
        } else {
            draft.change();
        }
    }
    draft.text
}

struct Draft<'a> {
    tasks: Vec<Known>,
    text: String,
    moments: &'a mut Moments,
}

impl Draft<'_> {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.moments.draw() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn line(&mut self, task: usize, step: &str) {
        let _ = writeln!(self.text, "{task} {step}");
    }

    fn living(&self) -> Vec<usize> {
        self.tasks.iter().enumerate().filter(|(_, task)| task.lives).map(|(number, _)| number).collect()
    }

    fn any_living(&mut self) -> usize {
        let living = self.living();
        let index = self.below(living.len());
        living.get(index).copied().unwrap_or(0)
    }

    fn make(&mut self) {
        const SIGUSR1: usize = 10;
        const SIGCHLD: usize = 17;
        let number = self.tasks.len();
        if number >= TASKS_MAX {
            return;
        }
        let maker = self.any_living();
        let parent = match self.below(10) {
            0 => {
                self.line(maker, &format!("sibling {number}"));
                self.tasks.get(maker).map_or(0, |task| task.parent)
            }
            _ => {
                let signal = match self.below(12) {
                    0 => SIGUSR1,
                    1 => 0,
                    _ => SIGCHLD,
                };
                self.line(maker, &format!("fork {number} {signal}"));
                maker
            }
        };
        self.tasks.push(Known { parent, lives: true, waits: true });
    }

    fn change(&mut self) {
        let task = self.any_living();
        match self.below(60) {
            0..12 => self.line(task, "exec"),
            12..22 => self.line(task, "setsid"),
            22..38 => {
                let whom = if self.below(3) == 0 { self.any_living() } else { task };
                // Its own, that of another, and that of one that is dead and was not waited for.
                let group = match self.below(3) {
                    0 => whom,
                    _ => self.below(self.tasks.len()),
                };
                self.line(task, &format!("setpgid {whom} {group}"));
            }
            38..43 => {
                let is = usize::from(self.below(3) > 0);
                self.line(task, &format!("subreaper {is}"));
            }
            43..46 => self.line(task, "thread"),
            46..55 if task != 0 => {
                let how = match self.below(3) {
                    0 => "die 9".to_owned(),
                    1 => format!("die {}", 34 + self.below(20)),
                    _ => format!("exit {}", self.below(256)),
                };
                self.line(task, &how);
                if let Some(known) = self.tasks.get_mut(task) {
                    known.lives = false;
                }
            }
            _ => self.reap(),
        }
    }

    /// Most of those that have ended are waited for by their parents.
    fn reap(&mut self) {
        let lives = |number: usize| self.tasks.get(number).is_some_and(|task| task.lives);
        let ended = self.tasks.iter().position(|task| !task.lives && task.waits && lives(task.parent));
        let Some((number, known)) = ended.and_then(|number| Some((number, self.tasks.get_mut(number)?)))
        else {
            return;
        };
        known.waits = false;
        let parent = known.parent;
        self.line(parent, &format!("reap {number}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_before_it_is_made_or_after_it_has_ended() {
        for seed in 0..200 {
            let script = write(Shape { living: 20, steps: 60 }, &mut Moments::new(&format!("script {seed}")));
            let (mut made, mut ended) = (vec![0], Vec::new());
            for line in script.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let number = |index: usize| words[index].parse::<usize>().unwrap();
                assert!(made.contains(&number(0)) && !ended.contains(&number(0)), "{line} in\n{script}");
                match words[1] {
                    "fork" | "sibling" => made.push(number(2)),
                    "exit" | "die" => ended.push(number(0)),
                    "reap" => assert!(ended.contains(&number(2)), "{line} in\n{script}"),
                    _ => {}
                }
            }
            let living = made.len() - ended.len();
            assert!((15..=20).contains(&living), "{living} of {} live:\n{script}", made.len());
        }
    }
}
