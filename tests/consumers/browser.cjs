// A chromium that does what it is told: one JSON object a line in, one a line out.
//   node browser.cjs CHROMIUM
// {"do":"open","url":…,"width":…,"height":…,"dark":…}   a page of its own, after its first paint
// {"do":"run","script":…}                  the value of an expression in the page
// {"do":"wait","script":…,"ms":…}          until the expression is true
// {"do":"fill"|"click"|"press"|"focus",…}  as a person would
// {"do":"shot","path":…}                   the whole page as PNG
// {"do":"axe"}                             what axe-core finds
// {"do":"errors"}                          what the console said, and hosts that were asked, since open
"use strict";
const readline = require("node:readline");
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

let browser, page, said, asked;

const verbs = {
  async open({ url, width = 1440, height = 900, dark = false }) {
    if (page) await page.context().close();
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
    context.setDefaultTimeout(30000 * (process.env.FLUXBRIDGE_TEST_PATIENCE ?? 1));
    page = await context.newPage();
    said = [];
    asked = new Set();
    page.on("console", (message) => { if (["error", "warning"].includes(message.type())) said.push(message.text()); });
    page.on("pageerror", (error) => said.push(String(error)));
    page.on("request", (request) => asked.add(new URL(request.url()).host));
    await page.goto(url, { waitUntil: "load" });
  },
  run: ({ script }) => page.evaluate(script),
  async wait({ script, ms }) { // not waitForFunction: the page's policy forbids what that does
    let why = "";
    for (const end = Date.now() + ms; Date.now() < end; await new Promise((go) => { setTimeout(go, 50); })) {
      try {
        if (await page.evaluate(script)) return;
      } catch (error) { // what it looks at is not there yet
        why = ": " + error;
      }
    }
    throw new Error("waited in vain for " + script + why);
  },
  fill: ({ where, text }) => page.fill(where, text),
  click: ({ where }) => page.click(where),
  press: ({ key }) => page.keyboard.press(key),
  focus: ({ where }) => page.focus(where),
  async shot({ path }) { // in a window as high as the page: what is not in sight is not drawn
    const { width, height } = page.viewportSize();
    for (let i = 0; i < 2; i++)
      await page.setViewportSize({ width, height: Math.min(6000, await page.evaluate("document.documentElement.scrollHeight")) });
    await page.evaluate("new Promise((done) => { setTimeout(done, 700); })");
    await page.screenshot({ path });
    await page.setViewportSize({ width, height });
  },
  async axe() {
    // In a world of its own, where the page's policy does not forbid it.
    const session = await page.context().newCDPSession(page);
    const { frameTree } = await session.send("Page.getFrameTree");
    const { executionContextId: contextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, contextId, awaitPromise: true, returnByValue: true });
      if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails).slice(0, 500));
      return result.value;
    };
    await evaluate(axe + ";0");
    return evaluate(`axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) => v.id + ": " + v.help + " " + v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).join("; ")))`);
  },
  errors: () => ({ said, hosts: [...asked] }),
};

(async () => {
  browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  console.log(JSON.stringify({ version: browser.version() }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    let answer;
    try { answer = { value: (await verbs[told.do](told)) ?? null }; } catch (error) { answer = { error: String(error) }; }
    console.log(JSON.stringify(answer));
  }
  await browser.close();
})();
