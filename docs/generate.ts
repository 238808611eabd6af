/**
 * The API reference, `npm run docs`: a page of `docs/api` for each module that the package opens, with what it exports,
 * signature and comment. It reads the declaration files that the compiler makes of `src`, so it shows what users' editors
 * show. A test holds the pages to the sources.
 *
 * Gotcha: it splits declarations by brackets and knows no TypeScript. The compiler's output is regular enough for that.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const project = fileURLToPath(new URL("..", import.meta.url))
const pages = join(project, "docs/api")

interface Statement {
  /** Empty for imports and exports of names. */
  readonly name: string
  readonly text: string
  readonly comment: string
  readonly isExported: boolean
}

interface Source {
  readonly path: string
  readonly head: string
  readonly statements: ReadonlyArray<Statement>
}

/** What one name stands for: a value, a type, or both. */
interface Entry {
  readonly name: string
  readonly statements: ReadonlyArray<Statement>
}

const textOf = (comment: string): string =>
  comment
    .replace(/^\/\*\*\s?|\s*\*\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, ""))
    .join("\n")
    .trim()

/** Brackets that a piece of code leaves open, those in comments and texts aside. */
const depthOf = (code: string): number => {
  let depth = 0
  for (const [token] of code.matchAll(/\/\*[\s\S]*?\*\/|"(?:[^"\\]|\\.)*"|`[^`]*`|[()[\]{}]/g)) {
    if ("([{".includes(token)) depth++
    else if (")]}".includes(token)) depth--
  }
  return depth
}

const declared = /^(export )?(?:declare )?(?:abstract )?(?:const|let|function|class|interface|type|namespace) (\w+)/

const parse = (path: string, source: string): Source => {
  const statements: Array<Statement> = []
  let comments: Array<string> = []
  let head = ""
  let rest = source
  while ((rest = rest.trimStart()) !== "") {
    const comment = /^\/\*\*[\s\S]*?\*\/|^\/\/.*/.exec(rest)?.[0]
    if (comment !== undefined) {
      if (statements.length === 0 && head === "") head = textOf(comment)
      else comments.push(comment)
      rest = rest.slice(comment.length)
      continue
    }
    const closed = /^(?:export )?(?:declare )?(?:abstract )?(?:interface|class|namespace) /.test(rest) ? /\}$/ : /;$/
    let end = 0
    do {
      const next = rest.indexOf("\n", end)
      end = next < 0 ? rest.length : next + 1
    } while (end < rest.length && !(closed.test(rest.slice(0, end).trimEnd()) && depthOf(rest.slice(0, end)) === 0))
    const text = rest.slice(0, end).trimEnd()
    const match = declared.exec(text)
    statements.push({
      name: match?.[2] ?? "",
      text,
      comment: textOf(comments.at(-1) ?? ""),
      isExported: match?.[1] !== undefined
    })
    comments = []
    rest = rest.slice(end)
  }
  return { path, head, statements }
}

/** `export { type A, b as c } from "x"`, or the same with `import`. */
const named = (text: string) => {
  const match = /^(export|import) (?:type )?\{([\s\S]*?)\}(?: from "(.+)")?;$/.exec(text)
  if (match === null) return undefined
  const comment = textOf(/\/\*\*[\s\S]*?\*\//.exec(match[2]!)?.[0] ?? "")
  const names = match[2]!
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .split(",")
    .map((part) => part.trim().replace(/^type /, ""))
    .filter((part) => part !== "")
    .map((part): readonly [own: string, shown: string] => {
      const [own, shown = own!] = part.split(" as ")
      return [own!, shown]
    })
  return { isExport: match[1] === "export", comment, names, from: match[3] }
}

class Reader {
  private readonly sources = new Map<string, Source>()
  private readonly root: string
  constructor(root: string) {
    this.root = root
  }

  source(path: string): Source {
    const known = this.sources.get(path)
    if (known !== undefined) return known
    const source = parse(path, readFileSync(join(this.root, path.replace(/ts$/, "d.ts")), "utf8"))
    this.sources.set(path, source)
    return source
  }

  /** Where a name is declared: here, or where it is imported from. */
  private find(source: Source, name: string): ReadonlyArray<Statement> {
    const here = source.statements.filter((statement) => statement.name === name)
    if (here.length > 0) return [...this.base(source, here), ...here]
    for (const { text } of source.statements) {
      const list = named(text)
      const pair = list?.names.find(([own, shown]) => (list.isExport ? own : shown) === name)
      if (list?.from?.startsWith(".") && pair !== undefined) {
        return this.find(this.source(join(dirname(source.path), list.from)), pair[0])
      }
    }
    return []
  }

  /** What a class extends is a constant that the compiler has made. */
  private base(source: Source, found: ReadonlyArray<Statement>): ReadonlyArray<Statement> {
    return found.flatMap(({ text }) => {
      const base = /^export declare class \w+ extends (\w+_base) /.exec(text)?.[1]
      return source.statements.filter(({ name }) => name === base)
    })
  }

  entries(source: Source): ReadonlyArray<Entry> {
    const entries = new Map<string, ReadonlyArray<Statement>>()
    for (const { isExported, name, text } of source.statements) {
      const star = /^export \* from "(.+)";$/.exec(text)?.[1]
      if (star !== undefined) {
        for (const entry of this.entries(this.source(join(dirname(source.path), star)))) {
          entries.set(entry.name, entry.statements)
        }
      }
      if (isExported && !entries.has(name)) entries.set(name, this.find(source, name))
      const list = named(text)
      if (list?.isExport !== true) continue
      const origin = list.from === undefined ? source : this.source(join(dirname(source.path), list.from))
      for (const [own, shown] of list.names) {
        const found = this.find(origin, own)
        if (found.length === 0) throw new Error(`${source.path}: ${own} is exported, and declared nowhere`)
        const comment = list.names.length === 1 ? list.comment : ""
        entries.set(
          shown,
          found.map((one) => ({ ...one, comment: one.comment || comment, text: renamed(one.text, own, shown) }))
        )
      }
    }
    return Array.from(entries, ([name, statements]) => ({ name, statements }))
  }
}

const renamed = (text: string, own: string, shown: string): string =>
  own === shown ? text : text.replace(new RegExp(`\\b${own}\\b`), shown)

/** Longer ones say more elsewhere: the description of the HTTP API is its OpenAPI document. */
const longest = 100

const signature = (text: string): string => {
  const plain = text
    .replace(/^export /, "")
    .replace(/^declare /, "")
    .replace(/^( {4})+/gm, (indent) => " ".repeat(indent.length / 2))
  return plain.split("\n").length <= longest ? plain : `${plain.slice(0, plain.indexOf("<"))}<...>;`
}

const section = ({ name, statements }: Entry): string => {
  const comments = new Set(statements.map(({ comment }) => comment).filter((comment) => comment !== ""))
  return [
    `## ${name}`,
    ...comments,
    `\`\`\`typescript\n${statements.map(({ text }) => signature(text)).join("\n")}\n\`\`\``
  ].join("\n\n")
}

const page = (name: string, entry: string, { head }: Source, entries: ReadonlyArray<Entry>): string =>
  `${[`# ${name}`, `\`import { ${name} } from "${entry}"\``, head, ...entries.map(section)].join("\n\n")}\n`

/** The doors of the package, and where what they open is written. */
const doors: ReadonlyArray<readonly [entry: string, index: string]> = [
  ["millrace", "index.ts"],
  ["millrace/laws", "laws/index.ts"],
  ["millrace/testing", "testing/index.ts"],
  ["millrace/web", "web/index.ts"]
]

/** All pages, by file name. */
export const reference = (): ReadonlyMap<string, string> => {
  const output = mkdtempSync(join(tmpdir(), "millrace-docs-"))
  try {
    const compiler = join(project, "node_modules/typescript/bin/tsc")
    const options = ["--project", join(project, "tsconfig.json"), "--emitDeclarationOnly", "--outDir", output]
    execFileSync(process.execPath, [compiler, ...options], { cwd: project, stdio: ["ignore", "inherit", "inherit"] })
    const reader = new Reader(output)
    const result = new Map<string, string>()
    const contents = ["# API reference", "Made by `npm run docs` from the comments in `src`."]
    for (const [entry, index] of doors) {
      const rows = ["| module | what it is |", "| --- | --- |"]
      for (const { comment, text } of reader.source(index).statements) {
        const match = /^export \* as (\w+) from "(.+)";$/.exec(text)
        if (match === null) continue
        const source = reader.source(join(dirname(index), match[2]!))
        result.set(`${match[1]}.md`, page(match[1]!, entry, source, reader.entries(source)))
        rows.push(`| [\`${match[1]}\`](${match[1]}.md) | ${comment} |`)
      }
      contents.push(`## \`${entry}\``, rows.join("\n"))
    }
    result.set("README.md", `${contents.join("\n\n")}\n`)
    return result
  } finally {
    rmSync(output, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  mkdirSync(pages, { recursive: true })
  const made = reference()
  for (const name of readdirSync(pages)) if (!made.has(name)) rmSync(join(pages, name))
  for (const [name, text] of made) writeFileSync(join(pages, name), text)
}
