// An HTTP server of node: it serves a page, counts how often, and its timer ticks.
const fs = require("fs");
const http = require("http");
const [port, folder] = process.argv.slice(2);
let count = 0, ticks = 0;

http.createServer((request, answer) => {
    answer.setHeader("Connection", "close");
    if (request.url === "/count") return answer.end(`${count}\n`);
    if (request.url === "/ticks") return answer.end(`${ticks}\n`);
    fs.readFile(`${folder}/pages/page`, (error, page) => {
        count += 1;
        answer.end(page);
    });
}).listen(Number(port), "127.0.0.1");
setInterval(() => { ticks += 1; }, 10);
