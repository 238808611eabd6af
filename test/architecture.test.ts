/**
 * Who may import whom, read from the imports themselves: `words <- ports <- runtime <- edges`, and `words, ports <-
 * engines <- Engine`. Beside that: a doc comment at the head of each module, one clock, no file that is too long. An
 * exception stands here with its reason, and one that is not needed any more is a failure too.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "vitest"

const root = fileURLToPath(new URL("../src", import.meta.url))

interface Import {
  readonly from: string
  /** Relative ones as paths below `src`, others as they are written. */
  readonly to: string
  readonly isType: boolean
  /** What is imported, where names are listed. */
  readonly names: ReadonlyArray<string>
}

interface Module {
  readonly path: string
  readonly source: string
  /** Without comments. */
  readonly code: string
  readonly imports: ReadonlyArray<Import>
}

const statement = /^(?:import|export)\s+(type\s+)?(?:([\w\s{},*]*?)\s+from\s+)?"([^"]+)"/gm

/** Comments blanked out; strings and templates are left alone. */
const withoutComments = (source: string): string =>
  source.replace(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (text) =>
    text.startsWith("/") ? text.replace(/[^\n]/g, "") : text
  )

const read = (path: string): Module => {
  const source = readFileSync(join(root, path), "utf8")
  const code = withoutComments(source)
  const imports = Array.from(code.matchAll(statement), ([, type, clause = "", to = ""]): Import => {
    const names = /\{([^}]*)\}/.exec(clause)?.[1] ?? ""
    return {
      from: path,
      to: to.startsWith(".") ? normalize(join(dirname(path), to)) : to,
      isType: type !== undefined,
      names: names.split(",").flatMap((name) => /^\s*(?:type\s+)?(\w+)/.exec(name)?.[1] ?? [])
    }
  })
  return { path, source, code, imports }
}

const modules = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .toSorted()
  .map(read)
const imports = modules.flatMap((module) => module.imports)

// ------------------------------------------------------------------------------------------------------------ the map

type Room = "words" | "ports" | "runtime" | "embedded" | "redis" | "engine" | "edges" | "index"

const rooms: Record<"words" | "ports" | "engine", ReadonlyArray<string>> = {
  words: [
    "Errors.ts",
    "Event.ts",
    "Partitioner.ts",
    "Policy.ts",
    "Retention.ts",
    "Window.ts",
    // Pure, and of use to every room.
    "internal/copies.ts",
    "internal/record/compression.ts",
    "internal/record/encryption.ts",
    "internal/entryId.ts",
    "internal/finding.ts",
    "internal/record/flat.ts",
    "internal/record/redacted.ts",
    "internal/names.ts",
    "internal/schedule/timing.ts",
    "internal/targets.ts",
    "internal/record/transform.ts",
    "internal/url.ts"
  ],
  // Settings are references with defaults: what an engine's layer gives and the runtime reads.
  // So are the names of engines. What is stored of a quarantine is the same in every engine, and so is which logs lose what.
  ports: [
    "Broker.ts",
    "Coordinator.ts",
    "JobStore.ts",
    "Serializer.ts",
    "Settings.ts",
    "TableStore.ts",
    "internal/jobFacts.ts",
    "internal/mismatch.ts",
    "internal/namespace.ts",
    "internal/quarantine.ts",
    "internal/schedule/scheduler.ts",
    "internal/topicFacts.ts",
    "internal/unread.ts"
  ],
  engine: ["Engine.ts", "Redis.ts"]
}

/**
 * A topic is a word, and its operations (`publish`, `stream`, `emit`) stand beside it, as the API wants it: so `Topic.ts`
 * counts as runtime here, and no word or port may import it. All that is not named is runtime.
 */
const roomOf = (path: string): Room => {
  if (path === "index.ts") return "index"
  if (rooms.words.includes(path)) return "words"
  if (rooms.ports.includes(path)) return "ports"
  if (rooms.engine.includes(path)) return "engine"
  if (path.startsWith("embedded/")) return "embedded"
  if (path.startsWith("redis/")) return "redis"
  if (/^(testing|laws|cli|web)\/|^bin\.ts$/.test(path)) return "edges"
  return "runtime"
}

const mayImport: Record<Room, ReadonlyArray<Room>> = {
  words: ["words"],
  ports: ["words", "ports"],
  runtime: ["words", "ports", "runtime"],
  embedded: ["words", "ports", "embedded"],
  redis: ["words", "ports", "redis"],
  engine: ["words", "ports", "embedded", "redis", "engine"],
  edges: ["words", "ports", "runtime", "engine", "edges"],
  // The testing kit has an entry of its own.
  index: ["words", "ports", "runtime", "engine"]
}

interface Exception {
  readonly from: string
  readonly to: string
  readonly reason: string
}

const exceptions: ReadonlyArray<Exception> = [
  { from: "Worker.ts", to: "Engine.ts", reason: "the type Engine.Services only: the ports, by the name users know" },
  { from: "Worker.ts", to: "web/Web.ts", reason: "the type of its option: what it names is loaded when it is given" },
  {
    from: "internal/run/web.ts",
    to: "web/Web.ts",
    reason: "the same type; the module itself is imported when it runs"
  },
  { from: "App.ts", to: "Engine.ts", reason: "the type Engine.Services only: the ports, by the name users know" }
]

const isException = ({ from, isType, to }: Import): boolean =>
  isType && exceptions.some((exception) => exception.from === from && exception.to === to)

const wrong = (found: ReadonlyArray<Import>): ReadonlyArray<string> => found.map(({ from, to }) => `${from} -> ${to}`)

describe("imports", () => {
  const relative = imports.filter(({ to }) => to.endsWith(".ts"))

  it("are found", () => {
    assert.isAbove(modules.length, 40)
    assert.isAbove(relative.length, 150)
    for (const path of Object.values(rooms).flat())
      assert.isTrue(
        modules.some((module) => module.path === path),
        path
      )
    for (const { from, to } of relative)
      assert.isTrue(
        modules.some(({ path }) => path === to),
        `${from} -> ${to}`
      )
    // Each statement that names a file was read: no form escapes the expression above.
    for (const { code, imports, path } of modules) {
      const written = code.match(/"\.{1,2}\/[^"]*\.ts"/g)?.length ?? 0
      const later = path === "internal/run/web.ts" ? 1 : 0
      assert.strictEqual(imports.filter(({ to }) => to.endsWith(".ts")).length, written - later, path)
    }
  })

  it("go one way: words <- ports <- runtime <- edges; words, ports <- engines <- Engine", () => {
    const crossing = relative.filter(({ from, to }) => !mayImport[roomOf(from)].includes(roomOf(to)))
    assert.deepStrictEqual(wrong(crossing.filter((one) => !isException(one))), [])
    const unneeded = exceptions.filter(({ from, to }) => !crossing.some((one) => one.from === from && one.to === to))
    assert.deepStrictEqual(unneeded, [])
  })

  it("make no circle of values", () => {
    const values = new Map(
      modules.map(({ imports, path }) => [path, imports.filter(({ isType }) => !isType).map(({ to }) => to)])
    )
    const done = new Set<string>()
    const visit = (path: string, trail: ReadonlyArray<string>): void => {
      assert.notInclude(trail, path, [...trail, path].join(" -> "))
      if (done.has(path)) return
      for (const to of values.get(path) ?? []) visit(to, [...trail, path])
      done.add(path)
    }
    for (const { path } of modules) visit(path, [])
  })

  const onlyFrom = (name: string | RegExp, allowed: ReadonlyArray<string>): void => {
    const users = modules.filter(({ code }) => (typeof name === "string" ? code.includes(name) : name.test(code)))
    assert.isNotEmpty(users)
    assert.deepStrictEqual(
      users.map(({ path }) => path).filter((path) => !allowed.includes(path)),
      []
    )
  }

  it("reach ioredis and node:sqlite from one room each", () => {
    onlyFrom(/"ioredis"/, ["redis/client.ts", "redis/connection.ts"])
    onlyFrom(/"node:sqlite"/, ["embedded/client.ts"])
    onlyFrom(/"msgpackr"/, ["Serializer.ts"])
  })

  it("reach unstable modules of Effect from edges only, and the schema compiler from one place", () => {
    const effect = join(root, "..", "node_modules", "effect", "src")
    const unstable = new Set(
      readdirSync(effect).flatMap((file) => {
        if (!file.endsWith(".ts")) return file === "internal" || file === "testing" ? [] : [`effect/${file}`]
        const head = /\/\*\*[\s\S]*?\*\//.exec(readFileSync(join(effect, file), "utf8"))?.[0] ?? ""
        return head.includes("@stability unstable") ? [`effect/${file.slice(0, -3)}`] : []
      })
    )
    assert.isTrue(unstable.has("effect/FileSystem") && unstable.has("effect/http") && !unstable.has("effect/Stream"))
    const used = imports
      .filter(({ from }) => roomOf(from) !== "edges")
      .flatMap(({ from, names, to }) =>
        (to === "effect" ? names.map((name) => `effect/${name}`) : [to])
          .filter((name) => unstable.has(name.split("/").slice(0, 2).join("/")) || name.startsWith("@effect/"))
          .map((name) => `${from} -> ${name}`)
      )
    // 952 -> 200 ns to decode six fields; without the module schemas are interpreted, and all is the same but slower.
    assert.deepStrictEqual(used, ["internal/record/record.ts -> effect/schema/SchemaJITCompiler/enable"])
  })

  it("take of @effect/platform-node one module at a time: its index loads whatever it has clients for", () => {
    assert.deepStrictEqual(wrong(imports.filter(({ to }) => to === "@effect/platform-node")), [])
  })

  it("of other packages are those that are declared", () => {
    const manifest = JSON.parse(readFileSync(join(root, "..", "package.json"), "utf8"))
    const declared = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })
    const packages = imports
      .map(({ to }) => to)
      .filter((to) => !to.endsWith(".ts") && !to.startsWith("node:"))
      .map((to) => to.split("/", to.startsWith("@") ? 2 : 1).join("/"))
    assert.deepStrictEqual(
      Array.from(new Set(packages)).filter((name) => !declared.includes(name)),
      []
    )
  })
})

// ------------------------------------------------------------------------------------------------------------ modules

/** Lines of code, comments and empty lines not counted. */
const most = 400

const linesOf = ({ code }: Module): number => code.split("\n").filter((line) => line.trim() !== "").length

const offenders = (pattern: RegExp, except: (module: Module) => boolean = () => false): ReadonlyArray<string> =>
  modules.filter((module) => !except(module) && pattern.test(module.code)).map(({ path }) => path)

describe("modules", () => {
  it("begin with a doc comment that says what they are", () => {
    const silent = modules.filter(({ source }) => {
      const [, text = ""] = /^(?:#!.*\n)?\/\*\*([\s\S]*?)\*\//.exec(source) ?? []
      return text.replace(/[\s*]+/g, " ").trim().length < 40
    })
    assert.deepStrictEqual(
      silent.map(({ path }) => path),
      []
    )
  })

  it("know one clock and one source of chance, which tests can set", () => {
    assert.deepStrictEqual(offenders(/\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.now\b|\bprocess\.hrtime\b/), [])
    assert.deepStrictEqual(offenders(/\bMath\.random\b/), [])
    // Only what talks to a server over a socket waits in real time.
    const waits = /\b(?:setTimeout|setInterval|setImmediate)\(/
    assert.deepStrictEqual(
      offenders(waits, ({ path }) => roomOf(path) === "redis"),
      []
    )
    assert.isNotEmpty(offenders(waits))
  })

  it("print nothing: logs are Effect's", () => {
    assert.deepStrictEqual(offenders(/\bconsole\.\w+\(|\bprocess\.std(?:out|err)\b/), [])
  })

  it("have no default export and leave no work for later", () => {
    assert.deepStrictEqual(offenders(/^export default\b/m), [])
    const later = modules.filter(({ source }) => /\bTODO\b|\bFIXME\b|\bXXX\b/.test(source))
    assert.deepStrictEqual(
      later.map(({ path }) => path),
      []
    )
  })

  it(`have ${most} lines of code at most`, () => {
    const long = modules.filter((module) => linesOf(module) > most)
    assert.deepStrictEqual(
      long.map((module) => `${module.path}: ${linesOf(module)}`),
      []
    )
  })

  it("that are public are all in the index, each with a sentence", () => {
    const index = modules.find(({ path }) => path === "index.ts")!
    const exported = Array.from(index.source.matchAll(/^\/\*\* (.+) \*\/\nexport \* as (\w+) from "\.\/(\w+)\.ts"$/gm))
    for (const [, , name, file] of exported) assert.strictEqual(name, file)
    const files = modules.map(({ path }) => path).filter((path) => /^[A-Z]\w*\.ts$/.test(path))
    assert.deepStrictEqual(exported.map(([, , name]) => `${name}.ts`).toSorted(), files)
  })
})
