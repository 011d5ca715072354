// check.cjs FILE: says what npm's @asyncapi/parser has against an AsyncAPI document, then takes
// messages as JSON lines {topic, text} on stdin and says which of them ajv finds to be otherwise
// than the document has it. A member that no schema names counts as well. The last line is a
// summary as JSON.
const fs = require("node:fs");
const readline = require("node:readline");
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv");

const complaints = [];

// What readers are to put up with is an error of the document here.
function close(schema) {
  if (Array.isArray(schema)) return schema.map(close);
  if (schema === null || typeof schema !== "object") return schema;
  const copy = {};
  for (const [key, value] of Object.entries(schema))
    if (!key.startsWith("x-parser-")) copy[key] = close(value);
  if (copy.type === "object" && copy.properties && copy.additionalProperties === undefined)
    copy.additionalProperties = false;
  return copy;
}

function pattern(address) {
  return new RegExp("^" + address.replace(/\{[a-z]+\}/g, "[^/]+") + "$");
}

async function main() {
  const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], "utf8"));
  for (const { severity, message, path } of diagnostics)
    if (severity <= 1) complaints.push(`${path.join(".")}: ${message}`);
  const counts = {};
  if (document) {
    const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
    // The most particular address first: {device} stands for bridge as well.
    const channels = document.channels().all().map((channel) => ({
      id: channel.id(),
      matches: pattern(channel.address()),
      n: channel.address().split("{").length,
      text: channel.messages().all()[0].contentType() === "text/plain",
      valid: ajv.compile(close(channel.messages().all()[0].payload().json())),
    })).sort((a, b) => a.n - b.n);
    for (const { id } of channels) counts[id] = 0;
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const { topic, text } = JSON.parse(line);
      const channel = channels.find(({ matches }) => matches.test(topic));
      if (!channel) {
        complaints.push(`${topic}: no channel has this address`);
        continue;
      }
      counts[channel.id]++;
      if (!channel.valid(channel.text ? text : JSON.parse(text)))
        complaints.push(`${topic}: ${ajv.errorsText(channel.valid.errors)}: ${text}`);
    }
  }
  console.log(JSON.stringify({ complaints, counts }));
}

main();
