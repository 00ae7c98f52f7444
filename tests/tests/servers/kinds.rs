//! The servers, and how each is started.

use nix::sys::signal::Signal;

/// A server. `{folder}` is where it runs, `{port}` where it listens; its pid file is `pid` in the folder.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// What stands in the file `configuration`.
    pub(crate) configuration: &'static str,
    /// How many processes it has at least.
    pub(crate) processes: usize,
    /// What makes it take new workers.
    pub(crate) reload: Signal,
}

impl Kind {
    /// What it serves.
    pub(crate) fn page(&self) -> &'static str {
        "a page that is served before and after\n"
    }
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "nginx",
        program: "/usr/sbin/nginx",
        arguments: &["-c", "{folder}/configuration", "-e", "{folder}/error.log", "-g", "daemon off;"],
        configuration: NGINX,
        processes: 3,
        reload: Signal::SIGHUP,
    },
    Kind {
        name: "nginx_daemon",
        program: "/usr/sbin/nginx",
        arguments: &["-c", "{folder}/configuration", "-e", "{folder}/error.log"],
        configuration: NGINX,
        processes: 3,
        reload: Signal::SIGHUP,
    },
    Kind {
        name: "apache",
        program: "/usr/sbin/apache2",
        arguments: &["-f", "{folder}/configuration", "-D", "FOREGROUND"],
        configuration: APACHE,
        processes: 4,
        reload: Signal::SIGUSR1,
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
