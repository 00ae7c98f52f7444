//! The `ckpt-dump` command.

use binfmt::address::Pid;
use binfmt::human::counted;
use clap::{CommandFactory, Parser};
use dumper::allow::Allow;
use dumper::collect::inet::Tcp;
use dumper::error::{Error, Status};
use dumper::{Afterwards, Options};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Save running processes as one file, which resumes them when it is run
///
/// Each PID is saved with all its descendants. They stand still while they are saved and then run on.
#[derive(Debug, Parser)]
#[command(name = "ckpt-dump", version, override_usage = "ckpt-dump [OPTIONS] <PID>...", after_help = AFTER)]
struct Arguments {
    /// Process id; a resume stands for the first
    #[arg(value_parser = clap::value_parser!(i32).range(1..), required_unless_present = "completions")]
    pid: Vec<i32>,
    /// Write the image to FILE, which appears only when it is whole [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Kill the processes when they have been saved
    #[arg(long, conflicts_with_all = ["stop", "check"])]
    kill: bool,
    /// Stop the processes when they have been saved
    #[arg(long, conflicts_with = "check")]
    stop: bool,
    /// Only say what cannot be saved
    #[arg(long, conflicts_with = "output")]
    check: bool,
    /// Say it as JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Save it although this is lost; may be given more than once
    #[arg(long, value_name = "WHAT")]
    allow: Vec<Allow>,
    /// What becomes of TCP connections [default: they go on after a resume, but where the program runs on and its peer is no
    /// process that is saved: those are lost in the image]
    #[arg(long, value_name = "HOW")]
    tcp: Option<Tcp>,
    /// How long to wait for a thread that does not stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,
    /// Say how long they stood still, and how large the image is
    #[arg(short, long)]
    verbose: bool,
    /// Print the completions for a shell (scripts/install puts them in place)
    #[arg(long, value_name = "SHELL", hide = true, exclusive = true)]
    completions: Option<clap_complete::Shell>,
}

const AFTER: &str = "Exit status:
  0  the processes were saved (or, with --check, can be)
  2  the command line is wrong
  3  a process holds something that cannot be saved; all of it is named
  4  there is no such process, or no right to it, or it does not stand still
  5  the image could not be written
  6  a process ended while it was being saved
  7  the kernel did not answer a question about one
Whatever happens, the processes run on unharmed.";

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = (0.0..1e9).contains(&seconds);
    sensible.then_some(seconds).ok_or_else(|| "not a time".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(shell) = arguments.completions {
        clap_complete::generate(shell, &mut Arguments::command(), "ckpt-dump", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let afterwards = match (arguments.kill, arguments.stop) {
        (true, _) => Afterwards::Kill,
        (_, true) => Afterwards::Stop,
        _ => Afterwards::RunOn,
    };
    let options = Options {
        pids: arguments.pid.iter().copied().map(Pid).collect(),
        output: arguments.output.clone(),
        afterwards,
        allow: arguments.allow.clone(),
        tcp: arguments.tcp,
        timeout: Duration::from_secs_f64(arguments.timeout),
    };
    match run(&arguments, &options) {
        Ok(code) => code,
        Err(error) => {
            tell(&error.to_string());
            error.status().into()
        }
    }
}

fn tell(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "ckpt-dump: {text}");
}

fn run(arguments: &Arguments, options: &Options) -> Result<ExitCode, Error> {
    if arguments.check {
        return check(arguments, options);
    }
    let report = dumper::checkpoint(options)?;
    report.remarks.iter().for_each(|remark| tell(remark));
    if arguments.verbose {
        let frozen_ms = report.frozen.as_secs_f64() * 1e3;
        let image_bytes = report.image_bytes;
        let processes = counted(report.processes, "process", "processes");
        let threads = counted(report.threads, "thread", "threads");
        tell(&format!("{processes}, {threads}, {image_bytes} bytes, stood still for {frozen_ms:.3} ms"));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Arguments, options: &Options) -> Result<ExitCode, Error> {
    let findings = dumper::check(options)?;
    let can_be_saved = findings.items.is_empty();
    let code = if can_be_saved { ExitCode::SUCCESS } else { Status::Unsupported.into() };
    let text = if arguments.json {
        let answer = serde_json::json!({
            "pid": arguments.pid.first(), "processes": findings.processes, "can_be_saved": can_be_saved,
            "unsupported": findings.items, "otherwise": findings.remarks
        });
        format!("{answer:#}\n")
    } else if can_be_saved {
        let pids: Vec<String> = arguments.pid.iter().map(ToString::to_string).collect();
        let descendants = match findings.processes.saturating_sub(pids.len()) {
            0 => String::new(),
            more => format!(" and {}", counted(more, "descendant", "descendants")),
        };
        let remarks: String = findings.remark_lines().map(|remark| format!("  {remark}\n")).collect();
        format!("pid {}{descendants} can be saved\n{remarks}", pids.join(", "))
    } else {
        findings.lines().map(|(what, advice)| format!("{what}\n  {advice}\n")).collect()
    };
    // A reader that has gone away has heard enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(code)
}
