/**
 * The README and the pages of `docs` say what is so: their snippets compile, the names, variables, metrics, commands and
 * files that they mention are there, the lines that they quote are ours, and the reference is that of the sources.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect_ from "effect"
import { Duration, Effect, Option } from "effect"
import { reference } from "../docs/generate.ts"
import * as Millrace from "../src/index.ts"
import * as Testing from "../src/testing/index.ts"
import * as Web from "../src/web/index.ts"
import { run } from "./cli/support.ts"
import * as World from "./support/docsWorld.ts"

const project = fileURLToPath(new URL("..", import.meta.url))
const read = (path: string): string => readFileSync(join(project, path), "utf8")
const filesIn = (folder: string): ReadonlyArray<string> =>
  readdirSync(join(project, folder), { recursive: true, encoding: "utf8" }).map((path) => `${folder}/${path}`)

const guides = ["README.md", ...filesIn("docs").filter((path) => /^docs\/[\w-]+\.md$/.test(path))]
const everything = guides.map((path) => ({ path, text: read(path) }))
const sources = filesIn("src").filter((path) => path.endsWith(".ts"))

/** Fenced blocks of a language, with the line that each begins at. */
const blocks = (text: string, language: string) =>
  Array.from(text.matchAll(new RegExp(`^\`\`\`${language}(?: (\\S+))?\\n([\\s\\S]*?)^\`\`\``, "gm")), (match) => ({
    /** What the file is called, if the text says so. */
    file: match[1],
    code: match[2]!,
    line: text.slice(0, match.index).split("\n").length + 1
  }))

/** What stands in backticks within a line. */
const quoted = (text: string): ReadonlyArray<string> =>
  Array.from(text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/`([^`\n]+)`/g), (match) => match[1]!)

const missing = (say: (path: string, text: string) => ReadonlyArray<string>): ReadonlyArray<string> =>
  everything.flatMap(({ path, text }) => say(path, text).map((what) => `${path}: ${what}`))

it("there are guides", () => {
  assert.includeMembers(guides, ["README.md", "docs/failures.md", "docs/operations.md", "docs/migration.md"])
})

const compile = (directory: string): Promise<string> =>
  new Promise((resolve) => {
    const compiler = join(project, "node_modules/typescript/bin/tsc")
    execFile(process.execPath, [compiler, "-p", directory], { cwd: directory }, (error, stdout, stderr) =>
      resolve(error === null ? "" : stdout + stderr || String(error))
    )
  })

/** A snippet with imports is a module as it is; any other is a generator's body, with all that the docs take for granted. */
const moduleOf = (code: string): string => {
  if (/^import /m.test(code)) return code
  const names = (namespace: object) =>
    Object.keys(namespace)
      .filter((name) => name !== "default")
      .join(", ")
  const ours = new Set([Millrace, Testing, World, globalThis].flatMap(Object.getOwnPropertyNames))
  const effects = Object.keys(Effect_).filter((name) => /^[A-Z]/.test(name) && !ours.has(name))
  return [
    `import { ${names(Millrace)} } from "millrace"`,
    'import { Laws } from "millrace/laws"',
    `import { ${names(Testing)} } from "millrace/testing"`,
    `import { ${names(Web)} } from "millrace/web"`,
    `import { ${effects.join(", ")} } from "effect"`,
    'import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"',
    'import { Otlp, PrometheusMetrics } from "effect/observability"',
    'import { TestClock } from "effect/testing"',
    'import { assert, it } from "@effect/vitest"',
    `import { ${names(World)} } from "world"`,
    'import type { DecodeError, EncodeError, UnitTooLarge } from "world"',
    "type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false",
    "export const snippet = Effect.gen(function* () {",
    code,
    // A type in a comment is that of what is defined below it.
    ...Array.from(
      code.matchAll(/^\/\/ (Processor<[^>]*>).*\nconst (\w+)/gm),
      ([, type, name]) => `const ${name}Type: Same<typeof ${name}, Processor.${type}> = true`
    ),
    "})"
  ].join("\n")
}

describe("snippets", () => {
  it("compile under strict settings", { timeout: 120_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "millrace-snippets-"))
    try {
      symlinkSync(join(project, "node_modules"), join(directory, "node_modules"))
      const snippets = everything.flatMap(({ path, text }) =>
        blocks(text, "ts").map(({ code, file, line }) => ({
          name: file ?? `${path.replaceAll("/", "-")}-${line}.ts`,
          code
        }))
      )
      assert.isAbove(snippets.length, 10)
      for (const { code, name } of snippets) writeFileSync(join(directory, name), moduleOf(code))
      const paths = {
        millrace: [join(project, "src/index.ts")],
        "millrace/laws": [join(project, "src/laws/index.ts")],
        "millrace/testing": [join(project, "src/testing/index.ts")],
        "millrace/web": [join(project, "src/web/index.ts")],
        world: [join(project, "test/support/docsWorld.ts")]
      }
      const { compilerOptions } = JSON.parse(read("tsconfig.json"))
      const options = { ...compilerOptions, rootDir: "/", noEmit: true, allowImportingTsExtensions: true, paths }
      // A snippet shows more than it uses.
      Object.assign(options, {
        noUnusedLocals: false,
        declaration: false,
        typeRoots: [join(project, "node_modules/@types")]
      })
      const config = { compilerOptions: options, files: snippets.map(({ name }) => name) }
      writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }))
      writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(config))
      assert.strictEqual(await compile(directory), "")
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

describe("names", () => {
  const page = (module: string): string => read(`docs/api/${module}.md`)
  const modules = readdirSync(join(project, "docs/api"))
    .filter((name) => name !== "README.md")
    .map((name) => name.slice(0, -3))

  it("are exported", () => {
    const pattern = new RegExp(`(?<![\\w./"-])(${modules.join("|")})\\.([a-zA-Z]\\w*)`, "g")
    const wrong = missing((path, text) => {
      // What others call theirs stands in the first column of the tables for those who come from there.
      const own = path === "docs/migration.md" ? text.replace(/^\|[^|]*\|/gm, "|") : text
      return quoted(own).flatMap((code) =>
        Array.from(code.matchAll(pattern))
          .filter(([, module, name]) => !new RegExp(`^## ${name}$`, "m").test(page(module!)))
          .map(([name]) => name)
      )
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("of variables and metrics are those of the sources", () => {
    const all = sources.map(read).join("\n")
    const wrong = missing((_, text) =>
      Array.from(text.matchAll(/\b(?:MILLRACE|millrace)_\w+\b/g), ([name]) => name)
        // `MILLRACE_TEST_REDIS` belongs to the tests.
        .filter((name) => !new RegExp(`\\b${name}\\b`).test(all) && name !== "MILLRACE_TEST_REDIS")
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("of files are those of files", () => {
    const wrong = missing((path, text) => {
      const here = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "."
      const links = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g), (match) => join(here, match[1]!))
      const named = quoted(text).filter((code) => /^(test|examples|src|docs)\/[\w./-]+$/.test(code))
      return [...links, ...named].filter((file) => !existsSync(join(project, file)))
    })
    assert.deepStrictEqual(wrong, [])
  })
})

describe("commands", () => {
  const help = (path: ReadonlyArray<string>) => Effect.map(run([...path, "--help"]), ({ code, out }) => ({ code, out }))

  /** Lines of shells, and what stands in backticks, that call our program. */
  const commands = (text: string): ReadonlyArray<string> =>
    [
      ...blocks(text, "sh")
        .flatMap(({ code }) => code.replace(/\\\n\s*/g, "").split("\n"))
        .map((line) => line.replace(/^.*\| /, "").replace(/ #.*$/, "")),
      ...quoted(text)
    ]
      .map((line) => line.trim())
      .filter((line) => /^(npx )?millrace [a-z]/.test(line))

  it.live("and their flags are there", () =>
    Effect.gen(function* () {
      const all = everything.flatMap(({ path, text }) => commands(text).map((line) => ({ path, line })))
      assert.isAbove(all.length, 20)
      const wrong: Array<string> = []
      for (const { line, path } of all) {
        const words = line.replace(/^npx /, "").split(/\s+/).slice(1)
        let known = yield* help([words[0]!])
        if (known.code !== 0 || !known.out.includes(`millrace ${words[0]}`)) {
          wrong.push(`${path}: ${line}`)
          continue
        }
        // A group of commands says which there are.
        const isGroup = known.out.includes("<subcommand>")
        if (isGroup && words[1] !== undefined && /^[a-z]+$/.test(words[1]) && words[0] !== "run") {
          known = yield* help(words.slice(0, 2))
          if (known.code !== 0 || !known.out.includes(`millrace ${words[0]} ${words[1]}`))
            wrong.push(`${path}: ${line}`)
        }
        for (const flag of words.filter((word) => word.startsWith("--"))) {
          if (!known.out.includes(`${flag.split("=")[0]} `)) wrong.push(`${path}: ${line}: ${flag}`)
        }
      }
      assert.deepStrictEqual(wrong, [])
    })
  )

  it.live("are all in the README's table", () =>
    Effect.gen(function* () {
      const { out } = yield* run(["--help"])
      const names = Array.from(out.slice(out.indexOf("\nRun:")).matchAll(/^ {2}([a-z]+) /gm), (match) => match[1]!)
      assert.isAbove(names.length, 20)
      const readme = read("README.md")
      const table = readme.slice(
        readme.indexOf("## Command line"),
        readme.indexOf("\n## ", readme.indexOf("## Command line") + 1)
      )
      assert.deepStrictEqual(
        names.filter((name) => !new RegExp(`\`${name}\\b`).test(table)),
        []
      )
    })
  )
})

describe("docs/failures.md", () => {
  const text = read("docs/failures.md")
  const entries = text.split(/^### /m).slice(1)
  /** Texts that are written over several lines, in one piece. */
  const all = sources
    .map(read)
    .join("\n")
    .replace(/["`]\s*\+\s*["`]/g, "")
    .replaceAll('\\"', '"')

  it("has an entry for each failure, and a test for each entry", () => {
    assert.isAbove(entries.length, 25)
    const without = entries.filter((entry) => !/^Shown by: .*`test\/[\w./]+\.test\.ts`/m.test(entry))
    assert.deepStrictEqual(
      without.map((entry) => entry.split("\n")[0]),
      []
    )
  })

  it("says of each what you see, what is guaranteed and what to do", () => {
    for (const entry of entries) {
      for (const part of ["**You see.**", "**Guaranteed.**", "**Do.**"]) assert.include(entry, part)
    }
  })

  it("quotes what is really said", () => {
    // `…` stands for what differs from time to time.
    const pieces = blocks(text, "text")
      .flatMap(({ code }) => code.trim().split("\n"))
      .flatMap((line) => line.split("…"))
      .map((piece) => piece.trim())
      .filter((piece) => piece.length >= 8)
    assert.isAbove(pieces.length, 30)
    assert.deepStrictEqual(
      pieces.filter((piece) => !all.includes(piece)),
      []
    )
  })

  it("names every failure of the module Errors", () => {
    const names = Object.keys(Millrace.Errors)
    assert.deepStrictEqual(
      names.filter((name) => !text.includes(`\`${name}\``)),
      []
    )
  })
})

describe("docs/operations.md", () => {
  const text = read("docs/operations.md")
  const rows = Array.from(text.matchAll(/^\|(.+)\|$/gm), (match) => match[1]!.split("|").map((cell) => cell.trim()))

  const bytes = (cell: string): unknown => {
    const [amount, unit] = cell.split(" ")
    const number = Number(amount!.replaceAll(",", ""))
    if (unit === "MiB") return number * 1024 * 1024
    if (unit === undefined) return number
    return Option.getOrUndefined(Option.map(Duration.fromInput(cell as Duration.Input), Duration.toMillis))
  }

  it("has every setting with its default", () => {
    const flat = Object.entries(Millrace.Settings.defaults).flatMap(([name, value]) =>
      typeof value === "object" && value !== null
        ? Object.entries(value).map(([inner, value]) => [`${name}.${inner}`, value] as const)
        : [[name, value] as const]
    )
    assert.isAbove(flat.length, 8)
    for (const [name, value] of flat) {
      const row = rows.find(([first]) => first === `\`${name}\``)
      assert.isDefined(row, name)
      if (value === undefined) assert.strictEqual(row[2], "the program's")
      else assert.strictEqual(typeof value === "string" ? row[2] : bytes(row[2]!), value, name)
    }
    const variables = new Set(read("src/Settings.ts").match(/MILLRACE_\w+/g))
    for (const variable of variables) {
      if (variable !== "MILLRACE_")
        assert.isTrue(
          rows.some((row) => row[1] === `\`${variable}\``),
          variable
        )
    }
  })

  const options = rows
    .filter(([where]) => /^`[A-Z]\w+\.\w+`$/.test(where!))
    .map(([where, option, value]) => ({
      module: where!.slice(1, where!.indexOf(".")),
      path: (/^`([\w.]+)`/.exec(option!)?.[1] ?? "").split("."),
      value: value!.replaceAll("`", "")
    }))

  it("has no option that is not there", () => {
    assert.isAbove(options.length, 30)
    const wrong = options.filter(
      ({ module, path }) => !new RegExp(`\\b${path.at(-1)}\\b`).test(read(`docs/api/${module}.md`))
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("has the defaults that the options say themselves", () => {
    const told = options.filter(({ value }) => /^\d/.test(value))
    assert.isAbove(told.length, 10)
    const wrong = told.filter(({ module, path, value }) => {
      const page = read(`docs/api/${module}.md`)
      const before = page.slice(0, page.indexOf(`readonly ${path[0]}?`))
      const comment = before.slice(before.lastIndexOf("/**"))
      return !/default/i.test(comment) || !comment.includes(value)
    })
    assert.deepStrictEqual(wrong, [])
  })
})

it("the API reference is that of the sources (npm run docs)", { timeout: 120_000 }, () => {
  const made = reference()
  assert.deepStrictEqual(readdirSync(join(project, "docs/api")).toSorted(), [...made.keys()].toSorted())
  for (const [name, text] of made)
    assert.isTrue(text === read(`docs/api/${name}`), `docs/api/${name} is not up to date: run npm run docs`)
})
