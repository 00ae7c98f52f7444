// Timers and a file, driven by an event loop.
const fs = require("fs");
const report = fs.openSync("report", "w");
let turn = 0;
const timer = setInterval(() => {
    fs.writeSync(report, `${turn}\n`);
    if (++turn === 100) clearInterval(timer);
}, 10);
