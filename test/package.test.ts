/**
 * What `npm pack` makes, installed in an empty TypeScript project elsewhere: its contents, its types, its first example
 * from built JavaScript, and the doors that stay shut. Installing asks npm's registry (or its cache) for the peers.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const project = fileURLToPath(new URL("..", import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), "millrace-package-"))
const consumer = join(scratch, "consumer")
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

// A parent npm hands its own settings down (`npm test` does): the consumer starts with none of this project's.
const environment = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(npm_(?!config_(registry|cache|proxy|https_proxy|cafile))|MILLRACE_|NODE_ENV)/i.test(name)
  )
)

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly all: string
}

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(command, args, { cwd, env: environment, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({
        code: error === null ? 0 : typeof error.code === "number" ? error.code : 1,
        stdout,
        all: stdout + stderr
      })
    })
  })

const succeeds = async (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const outcome = await run(cwd, command, ...args)
  assert.strictEqual(outcome.code, 0, `${command} ${args.join(" ")}\n${outcome.all}`)
  return outcome.stdout
}

const versionOf = (name: string): string =>
  JSON.parse(readFileSync(join(project, "node_modules", name, "package.json"), "utf8")).version

interface Packed {
  readonly filename: string
  readonly files: ReadonlyArray<{ readonly path: string }>
}

let packed: Packed

/** A program of a user that serves, and asks itself. */
const served = `import { Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { Engine } from "millrace"
import { Web } from "millrace/web"

const served = Web.layer({ port: 0 }).pipe(Layer.provide(Engine.layerMemory))
const ask = HttpServer.addressFormattedWith((address) =>
  Effect.promise(async () => {
    for (const path of ["/health/ready", "/"]) {
      const response = await fetch(address + path)
      console.log(response.status, response.headers.get("content-type"), (await response.text()).includes("<h1 id="))
    }
  })
)
await Effect.runPromise(Effect.provide(ask, served))
`

/** Values of many kinds, as a user's modules export them. */
const exported = `import { Effect, Schema } from "effect"
import { Agent, App, Engine, Job, Join, Policy, Probe, Processor, Queue, Scheduler, Serializer, Table, Topic } from "millrace"
import { Window, Worker } from "millrace"
import { Simulation, TestJob, TestProcessor } from "millrace/testing"
import { Web } from "millrace/web"

export const Order = Schema.Struct({ customer: Schema.String, amount: Schema.Finite })
export const orders = Topic.make("orders", { schema: Order, partitionBy: "customer" })
export const published = Topic.publishAll(orders, [{ customer: "ada", amount: 5 }])
export const seen = Topic.stream(orders, { from: "latest" })
export const letters = [Topic.deadLetters(orders), Topic.redrive(orders)]
export const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0, changes: true })
export const rows = [Table.changes(totals), Table.lookup(totals, "ada"), Table.entries(totals)]
export const hours = Table.windowed("hours", {
  key: Schema.String,
  value: Schema.Int,
  initial: () => 0,
  window: Window.tumbling("1 hour")
})
export const told = Table.onClose(hours, ({ key }) => Effect.log(key))
export const marks = Table.sets("marks", { key: Schema.String, member: Schema.String })
export const requests = Table.requests(marks)
export const counted = (name: string) => Table.update(hours, name, (count) => count + 1)
export const billing = Processor.make("billing", { topic: orders, tables: [totals, told] }, (order) =>
  Table.update(totals, order.customer, (total) => total + order.amount)
)
export const safe = billing.pipe(Processor.retry({ times: 3 }), Processor.catch(Policy.deadLetter()))
export const loader = Processor.batch("loader", { topic: orders, size: 5, within: "1 second" }, (batch) => Effect.log(batch.length))
export const looks = [Processor.lag("billing"), Processor.parked("billing"), Processor.quarantined("billing")]
export const joined = [Join.streams(orders, orders, { within: "1 hour" }), Join.table(orders, totals)]
export const view = Join.tables(totals, totals)
export class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { left: Schema.Int }) {}
export const stock = Agent.make("stock", { request: Schema.String, reply: Schema.Int, error: SoldOut })
export const keeper = Agent.handler(stock, () => Effect.succeed(1))
export const asked = Agent.ask(stock, "loom")
export const thumbnail = Job.make("thumbnail", { payload: Schema.String, success: Schema.String, error: SoldOut })
export const jobs = [Job.enqueue(thumbnail, "a"), Job.execute(thumbnail, "b"), Job.info(thumbnail, "c")]
export const shrink = Job.handler(thumbnail, (image, run) => Effect.as(Effect.log(run.attempt), image))
export const queue = [Queue.schedules("thumbnail"), Queue.counts("thumbnail")]
export const nightly = Scheduler.cron("nightly", { expression: "0 2 * * *" }, Effect.asVoid(Scheduler.Tick))
export const parts = [billing, safe, loader, keeper, shrink, nightly]
export const app = App.make({ name: "shop", parts })
export const ran = [App.run(app), Worker.run(parts)]
export const layers = [Engine.layerMemory, Engine.layerConfig, Worker.layer(parts), Web.layer({ port: 0 })]
export const packed = Serializer.compressed(Serializer.json, { with: "gzip" })
export const probed = Probe.make
export const run = TestProcessor.run(billing, [TestProcessor.event(orders, { customer: "ada", amount: 1 })])
export const simulated = Simulation.run(1, { parts: [safe], events: [] })
export const stepped = TestJob.run
`

describe("the package", () => {
  beforeAll(async () => {
    const output = await succeeds(project, "npm", "pack", "--json", "--pack-destination", scratch)
    // The build that `npm pack` runs may write before it.
    const [first] = JSON.parse(output.slice(output.search(/^\[$/m))) as ReadonlyArray<Packed>
    packed = first!
    mkdirSync(consumer)
    writeFileSync(join(consumer, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }))
    const peers = ["effect", "@effect/platform-node", "typescript", "@types/node"].map(
      (name) => `${name}@${versionOf(name)}`
    )
    await succeeds(
      consumer,
      "npm",
      "install",
      "--prefer-offline",
      "--no-audit",
      "--no-fund",
      join(scratch, packed.filename),
      ...peers
    )
  }, 300_000)

  const write = (name: string, source: string): void => writeFileSync(join(consumer, name), source)
  const compile = (...files: ReadonlyArray<string>): Promise<Outcome> => {
    const compilerOptions = {
      // What `tsc --init` writes: every type that a user's module exports must have a name outside of ours.
      declaration: true,
      target: "ES2024",
      lib: ["ES2024"],
      module: "NodeNext",
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      types: ["node"],
      outDir: "built",
      rootDir: "."
    }
    write("tsconfig.json", JSON.stringify({ compilerOptions, files }))
    return run(consumer, process.execPath, "node_modules/typescript/bin/tsc", "-p", ".")
  }

  const readme = readFileSync(join(project, "README.md"), "utf8")
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? ""

  /** What a user writes, by its file. All of it is compiled in one go, since the compiler checks the libraries each time. */
  const programs: Readonly<Record<string, string>> = {
    "example.ts": example,
    "kit.ts": `import * as Testing from "millrace/testing"\nconsole.log(Object.keys(Testing).join())\n`,
    "served.ts": served,
    "exported.ts": exported,
    "path.ts": `import { Topic } from "millrace"\nimport * as Same from "millrace/Topic"\nconsole.log(Same.make === Topic.make)\n`,
    "first.ts": /^```ts app\.ts\n([\s\S]*?)^```/m.exec(readme)?.[1] ?? ""
  }
  let compiled: Promise<Outcome> | undefined
  const compiledAll = (): Promise<Outcome> => {
    for (const [name, source] of Object.entries(programs)) write(name, source)
    return compile(...Object.keys(programs))
  }

  /** What the compiler has against our types and the user's code; Effect's own want the DOM library, and are its affair. */
  const complaints = async (file: string): Promise<ReadonlyArray<string>> => {
    const { all, code } = await (compiled ??= compiledAll())
    const lines = all.split("\n").filter((line) => line !== "" && !line.startsWith("node_modules/effect/"))
    if (code !== 0 && lines.length === 0 && !all.includes("node_modules/effect/")) return [`tsc ended with ${code}`]
    const others = Object.keys(programs).filter((name) => name !== file)
    return lines.filter((line) => !others.some((name) => line.startsWith(`${name}(`)))
  }

  it("holds the build and the papers, and nothing else", () => {
    const paths = packed.files.map(({ path }) => path)
    for (const path of ["package.json", "README.md", "LICENSE", "CHANGELOG.md", "dist/index.js", "dist/index.d.ts"]) {
      assert.include(paths, path)
    }
    const papers = /^(package\.json|README\.md|LICENSE|CHANGELOG\.md)$/
    const asset = "dist/web/assets/"
    assert.deepStrictEqual(
      paths.filter((path) => !papers.test(path) && !path.startsWith(asset) && !/^dist\/.+\.(js|d\.ts)$/.test(path)),
      []
    )
    // The files of the page are there as they are.
    const assets = readdirSync(join(project, "src/web/assets"), { recursive: true, encoding: "utf8" })
      .filter((path) => path.includes("."))
      .map((path) => asset + path)
    assert.deepStrictEqual(paths.filter((path) => path.startsWith(asset)).toSorted(), assets.toSorted())
    // Each source is there twice, as code and as types, and nothing of an older build.
    const sources = readdirSync(join(project, "src"), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts"))
      .flatMap((path) => [`dist/${path.replace(/ts$/, "js")}`, `dist/${path.replace(/ts$/, "d.ts")}`])
    const built = paths.filter((path) => path.startsWith("dist/") && !path.startsWith(asset))
    assert.deepStrictEqual(built.toSorted(), sources.toSorted())
  })

  it("brings what it needs and nothing of its own workshop", () => {
    const manifest = JSON.parse(readFileSync(join(project, "package.json"), "utf8"))
    const installed = (name: string): boolean => existsSync(join(consumer, "node_modules", name))
    for (const name of Object.keys(manifest.dependencies)) assert.isTrue(installed(name), name)
    const asked = ["effect", "@effect/platform-node", "typescript", "@types/node"]
    const workshop = Object.keys(manifest.devDependencies).filter((name) => !asked.includes(name))
    assert.includeMembers(workshop, ["node", "vitest", "vega-datasets"])
    assert.deepStrictEqual(workshop.filter(installed), [])
  })

  it("compiles the README's first example under strict settings, libraries checked", { timeout: 120_000 }, async () => {
    assert.include(example, `from "millrace"`)
    assert.deepStrictEqual(await complaints("example.ts"), [])
  })

  it("runs it from JavaScript", { timeout: 120_000 }, async () => {
    const promised = Array.from(example.matchAll(/Console\.log\(.*\/\/ (.+)$/gm), ([, text]) => text)
    assert.isNotEmpty(promised)
    const output = await succeeds(consumer, process.execPath, "built/example.js")
    assert.deepStrictEqual(output.trim().split("\n"), promised)
  })

  it("names the types of what a user's modules export", { timeout: 120_000 }, async () => {
    assert.deepStrictEqual(await complaints("exported.ts"), [])
    // By its own path too, and as the same module.
    assert.deepStrictEqual(await complaints("path.ts"), [])
    assert.strictEqual(await succeeds(consumer, process.execPath, "built/path.js"), "true\n")
  })

  it("opens each public module, and no other", () => {
    const { exports } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"))
    const opened = ["", "laws/", "testing/", "web/"].flatMap((folder) =>
      Array.from(
        readFileSync(join(project, "src", folder, "index.ts"), "utf8").matchAll(/^export \* as (\w+) from/gm),
        ([, name]): [string, unknown] => [`./${folder}${name}`, `./dist/${folder}${name}.js`]
      )
    )
    assert.isAbove(opened.length, 30)
    assert.deepStrictEqual(
      Object.entries(exports).filter(([, to]) => typeof to === "string" && to !== "./package.json"),
      opened
    )
  })

  it("opens its testing kit", { timeout: 120_000 }, async () => {
    assert.deepStrictEqual(await complaints("kit.ts"), [])
    assert.include(await succeeds(consumer, process.execPath, "built/kit.js"), "TestProcessor")
  })

  it("opens its web server, with the files of the page", { timeout: 120_000 }, async () => {
    assert.deepStrictEqual(await complaints("served.ts"), [])
    const output = await succeeds(consumer, process.execPath, "built/served.js")
    assert.include(output, "200 application/json false")
    assert.include(output, "200 text/html; charset=utf-8 true")
  })

  it("brings the command line, which knows apps in JavaScript", { timeout: 120_000 }, async () => {
    const millrace = join(consumer, "node_modules", ".bin", "millrace")
    const { version } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"))
    assert.strictEqual(await succeeds(consumer, millrace, "--version"), `millrace v${version}\n`)
    write(
      "app.mjs",
      `import { Effect, Schema } from "effect"
import { App, Processor, Topic } from "millrace"
const orders = Topic.make("orders", { schema: Schema.Struct({ id: Schema.Int }), partitions: 2 })
export const app = App.make({ name: "shop", parts: [Processor.make("billing", { topic: orders }, () => Effect.void)] })
`
    )
    const url = ["--url", "file:./shop.db"]
    await succeeds(consumer, millrace, "send", "app.mjs", "orders", '{"id":1}', ...url)
    const summary = await succeeds(consumer, millrace, "worker", "app.mjs", "--limit", "1", "--json", ...url)
    assert.strictEqual(JSON.parse(summary).parts.billing.processed, 1)
    const wrong = await run(consumer, millrace, "send", "app.mjs", "ordrs", "1", ...url)
    assert.strictEqual(wrong.code, 2)
    assert.strictEqual(wrong.all, "millrace: there is no topic ordrs in app.mjs; there are orders\n")
  })

  it("does what the README's first run says", { timeout: 120_000 }, async () => {
    assert.deepStrictEqual(await complaints("first.ts"), [])
    const millrace = join(consumer, "node_modules", ".bin", "millrace")
    const lines = Array.from(readme.matchAll(/^npx millrace (?:send|tables|dead|lag) .*$/gm), ([line]) => line)
    const words = lines.map((line) => line.split("#")[0]!.trim().replace("app.ts", "first.ts").split(" ").slice(2))
    const at = ["--url", "file:./first.db"]
    const [sends, looks] = [words.filter(([name]) => name === "send"), words.filter(([name]) => name !== "send")]
    for (const line of sends) await succeeds(consumer, millrace, ...line.map((word) => word.replaceAll("'", "")), ...at)
    await succeeds(consumer, millrace, "worker", "first.ts", "--limit", String(sends.length), ...at)
    const seen: Array<string> = []
    for (const line of looks) seen.push(await succeeds(consumer, millrace, ...line, ...at))
    assert.lengthOf(sends, 2)
    assert.lengthOf(looks, 3)
    assert.strictEqual(seen[0], "5\n")
    assert.include(seen[1], "Declined")
    assert.include(seen[2], "orders")
  })

  const shut = [
    "millrace/internal/names",
    "millrace/internal/names.js",
    "millrace/dist/internal/names.js",
    "millrace/redis/client"
  ]
  let refused: Promise<Outcome> | undefined
  const compiledShut = (): Promise<Outcome> => {
    shut.forEach((path, i) => write(`shut${i}.ts`, `import * as Inside from "${path}"\nconsole.log(Inside)\n`))
    return compile(...shut.map((_, i) => `shut${i}.ts`))
  }

  it.each(shut)("keeps %s shut, at compile time and at run time", { timeout: 120_000 }, async (path) => {
    const { all } = await (refused ??= compiledShut())
    const lines = all.split("\n").filter((line) => line.startsWith(`shut${shut.indexOf(path)}.ts(`))
    assert.match(lines.join("\n"), /error TS2307: Cannot find module/)
    write("shut.mjs", `import "${path}"\n`)
    const outcome = await run(consumer, process.execPath, "shut.mjs")
    assert.notStrictEqual(outcome.code, 0)
    assert.include(outcome.all, "ERR_PACKAGE_PATH_NOT_EXPORTED")
  })
})
