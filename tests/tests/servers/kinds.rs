//! The servers, and how each is started.

use crate::server::Server;
use crate::{carried, client, memory, messages, postgres, redis, web};
use ckpt_tests::Outcome;
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// What those serve that are asked for a page.
pub(crate) const PAGE: &str = "a page that is served before and after\n";

pub(crate) type Test = fn(&Server<'_>) -> Outcome<()>;

/// A server. `{folder}` is where it runs, `{port}` where it listens, `{source}` where sources are, `{postgres}` where
/// PostgreSQL's programs are; its pid file, if it has one, is `pid` in the folder.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Commands that come before.
    pub(crate) before: &'static [&'static [&'static str]],
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// What stands in the file `configuration`.
    pub(crate) configuration: &'static str,
    /// How many processes it has at least.
    pub(crate) processes: usize,
    /// One question, and its answer.
    pub(crate) ask: fn(u16) -> Outcome<()>,
    /// What makes it take new workers.
    pub(crate) reload: Option<Signal>,
    /// What ends it.
    pub(crate) end: Signal,
    /// The status that it then has, as a shell says it.
    pub(crate) status: i32,
    /// What it counts by itself.
    pub(crate) goes_on: &'static [&'static str],
    /// What is done to it.
    pub(crate) tests: &'static [(&'static str, Test)],
}

impl Kind {
    /// The first program that it needs and that is not there.
    pub(crate) fn missing(&self) -> Option<String> {
        let before = self.before.iter().flat_map(|words| words.iter());
        let mut words = before.chain([&self.program]).chain(self.arguments).map(|word| placed(word));
        words.find(|word| word.starts_with('/') && !Path::new(word).exists())
    }
}

/// What it says of where programs are, with that filled in.
pub(crate) fn placed(text: &str) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");
    text.replace("{postgres}", &postgres_programs().to_string_lossy()).replace("{source}", source)
}

/// The newest version's, as Debian lays them.
pub(crate) fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path).unwrap_or(0_u32));
    newest.unwrap_or_else(|| "/usr/lib/postgresql/VERSION".into()).join("bin")
}

/// Asked for a page all the time, killed and resumed, and its port taken.
const WEB: &[(&str, Test)] = &[
    ("running", web::run_on),
    ("killed", web::killed_and_resumed),
    ("kept", web::kept),
    ("taken", web::port_is_taken),
];

/// What most servers have in common.
const SERVER: Kind = Kind {
    name: "",
    before: &[],
    program: "",
    arguments: &[],
    configuration: "",
    processes: 1,
    ask: client::page,
    reload: None,
    end: Signal::SIGTERM,
    status: 0,
    goes_on: &[],
    tests: WEB,
};

/// What those have in common that count their pages, and have a timer.
const COUNTS: Kind = Kind {
    ask: client::counts,
    status: 128 + Signal::SIGTERM as i32,
    goes_on: &["/ticks"],
    tests: &[("killed", carried::pages)],
    ..SERVER
};

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "nginx",
        program: "/usr/sbin/nginx",
        arguments: &["-c", "{folder}/configuration", "-e", "{folder}/error.log", "-g", "daemon off;"],
        configuration: NGINX,
        processes: 3,
        reload: Some(Signal::SIGHUP),
        tests: &[
            ("running", web::run_on),
            ("killed", web::killed_and_resumed),
            ("kept", web::kept),
            ("pressed", web::pressed),
            ("taken", web::port_is_taken),
        ],
        ..SERVER
    },
    Kind {
        name: "nginx_daemon",
        program: "/usr/sbin/nginx",
        arguments: &["-c", "{folder}/configuration", "-e", "{folder}/error.log"],
        configuration: NGINX,
        processes: 3,
        reload: Some(Signal::SIGHUP),
        ..SERVER
    },
    Kind {
        name: "apache",
        program: "/usr/sbin/apache2",
        arguments: &["-f", "{folder}/configuration", "-D", "FOREGROUND"],
        configuration: APACHE,
        processes: 4,
        reload: Some(Signal::SIGUSR1),
        ..SERVER
    },
    Kind {
        name: "postgres",
        before: &[&[
            "/usr/bin/setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "{postgres}/initdb",
            "--pgdata=data",
            "--username=bank",
            "--auth=trust",
            "--no-sync",
        ]],
        program: "/usr/bin/setpriv",
        arguments: &[
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "{postgres}/postgres",
            "-D",
            "data",
            "-k",
            "{folder}",
            "-h",
            "127.0.0.1",
            "-p",
            "{port}",
        ],
        processes: 5,
        ask: postgres::ask,
        // The fast way: clients are sent away.
        end: Signal::SIGINT,
        tests: &[
            ("running", postgres::run_on),
            ("killed", postgres::killed_and_resumed),
            ("detached", postgres::detached),
        ],
        ..SERVER
    },
    Kind {
        name: "redis",
        program: "/usr/bin/redis-server",
        arguments: &[
            "--port",
            "{port}",
            "--bind",
            "127.0.0.1",
            "--dir",
            "{folder}",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--enable-debug-command",
            "yes",
        ],
        ask: redis::ask,
        tests: &[
            ("running", redis::run_on),
            ("killed", redis::killed_and_resumed),
            ("kept", redis::kept),
            ("detached", redis::detached),
        ],
        ..SERVER
    },
    Kind {
        name: "asyncio",
        program: "/usr/bin/python3",
        arguments: &["{source}/page_server.py", "{port}", "{folder}"],
        processes: 2,
        goes_on: &["/ticks", "/echoes"],
        ..COUNTS
    },
    Kind {
        name: "node",
        program: "/usr/bin/node",
        arguments: &["{source}/page_server.js", "{port}", "{folder}"],
        ..COUNTS
    },
    Kind {
        name: "go",
        before: &[&[
            "/usr/bin/env",
            "GO111MODULE=off",
            "GOCACHE={folder}/go-cache",
            "/usr/bin/go",
            "build",
            "-o",
            "{folder}/page_server",
            "{source}/page_server.go",
        ]],
        program: "{folder}/page_server",
        arguments: &["{port}", "{folder}"],
        ..COUNTS
    },
    Kind {
        name: "java",
        before: &[&["/usr/bin/javac", "-d", "{folder}", "{source}/PageServer.java"]],
        program: "/usr/bin/java",
        arguments: &[
            "-XX:+UseG1GC",
            "-Xmx128m",
            "-XX:-UsePerfData",
            "-cp",
            "{folder}",
            "PageServer",
            "{port}",
            "{folder}",
        ],
        ..COUNTS
    },
    Kind {
        name: "memcached",
        program: "/usr/bin/memcached",
        arguments: &["-u", "nobody", "-l", "127.0.0.1", "-p", "{port}"],
        ask: memory::answers,
        tests: &[("killed", carried::values)],
        ..SERVER
    },
    Kind {
        name: "mosquitto",
        program: "/usr/sbin/mosquitto",
        arguments: &["-c", "configuration"],
        configuration: "listener {port} 127.0.0.1\nallow_anonymous true\nuser nobody\n",
        ask: messages::answers,
        tests: &[("killed", carried::last_messages)],
        ..SERVER
    },
];

const NGINX: &str = "
user nobody nogroup;
worker_processes 2;
pid {folder}/pid;
events { worker_connections 128; }
http {
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {
        listen 127.0.0.1:{port};
        listen [::1]:{port} ipv6only=on;
        location / { root {folder}/pages; }
    }
}
";

const APACHE: &str = "
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ServerName localhost
Listen 127.0.0.1:{port}
User nobody
Group nogroup
StartServers 3
MinSpareServers 1
MaxSpareServers 8
KeepAlive On
ErrorLog {folder}/error.log
DocumentRoot {folder}/pages
<Directory {folder}/pages>
    Require all granted
</Directory>
";
