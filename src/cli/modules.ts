/**
 * `<module>`: a file, a glob or `file#export`, imported, and what it exports of ours. An app says what its parts are; where
 * there is none, all exported parts of all files count.
 *
 * Gotcha: importing a module runs it. One that starts a worker when it is imported starts it here too.
 */
import { fileURLToPath, pathToFileURL } from "node:url"
import { Effect, Predicate } from "effect"
import { Argument } from "effect/cli"
import type * as Agent from "../Agent.ts"
import * as App from "../App.ts"
import type * as Engine from "../Engine.ts"
import { type Catalog, catalogOf, merge } from "../internal/catalog.ts"
import type * as Job from "../Job.ts"
import type * as Part from "../Part.ts"
import type * as Settings from "../Settings.ts"
import type * as Table from "../Table.ts"
import * as Topic from "../Topic.ts"
import { oneLine, WrongUse } from "./failures.ts"
import { find, shown } from "./files.ts"

type AnyApp = App.App<unknown, Engine.Services>

/** What was found in a module. */
export interface Found extends Catalog {
  /** As it was asked for. */
  readonly spec: string
  readonly app: AnyApp | undefined
  readonly parts: ReadonlyArray<Part.Part<unknown, Engine.Services>>
  /** The app's, if there is one. */
  readonly namespace: string | undefined
  readonly settings: Settings.Options
}

interface Export {
  readonly file: string
  readonly name: string
  readonly value: unknown
}

const isApp = (value: unknown): value is AnyApp => Predicate.hasProperty(value, "~millrace/App")
const isPart = (value: unknown): value is Part.Part<unknown, Engine.Services> =>
  Predicate.hasProperty(value, "~millrace/Part")
const isTopic = (value: unknown): value is Topic.Any => Predicate.hasProperty(value, "~millrace/Topic")
const isAgent = (value: unknown): value is Agent.Agent<any, any, any> => Predicate.hasProperty(value, "~millrace/Agent")
const isJob = (value: unknown): value is Job.Any => Predicate.hasProperty(value, "~millrace/Job")
const isTable = (value: unknown): value is Table.Declared =>
  Predicate.hasProperty(value, "~millrace/Table") && Predicate.hasProperty(value, "definition")

const wrong = (message: string): WrongUse => new WrongUse({ message })

const ours = new URL("..", import.meta.url).href

/** The first place in the user's own files that the stack names: which of them it is, they cannot know from the message. */
const placeOf = ({ stack = "" }: Error): string => {
  const places = Array.from(stack.matchAll(/(file:\/\/\S+?):(\d+)/g))
  const place = places.find(([, file]) => !file!.startsWith(ours) && !file!.includes("/node_modules/"))
  return place === undefined ? "" : ` (${shown(fileURLToPath(place[1]!))}:${place[2]})`
}

const exportsOf = (file: string) =>
  Effect.map(
    Effect.tryPromise({
      try: (): Promise<Record<string, unknown>> => import(pathToFileURL(file).href),
      catch: (error) => {
        const text = error instanceof Error ? `${error.name}: ${error.message}${placeOf(error)}` : String(error)
        return wrong(`${shown(file)} cannot be loaded: ${oneLine(text)}`)
      }
    }),
    (module) => Object.entries(module).map(([name, value]): Export => ({ file, name, value }))
  )

const listed = (exports: ReadonlyArray<Export>): string =>
  exports.map(({ file, name }) => `${shown(file)}#${name}`).join(", ")

const named = <A extends { readonly name: string }>(all: ReadonlyArray<A>): ReadonlyMap<string, A> =>
  new Map(all.map((one) => [one.name, one]))

/** The one app among these, whatever names it is exported under. */
const appOf = (spec: string, exports: ReadonlyArray<Export>) =>
  Effect.gen(function* () {
    const apps = exports.filter(({ value }) => isApp(value))
    if (new Set(apps.map(({ value }) => value)).size <= 1) return apps[0]?.value as AnyApp | undefined
    return yield* wrong(`${spec} holds several apps: choose one of ${listed(apps)}`)
  })

const selected = (spec: string, name: string | undefined, exports: ReadonlyArray<Export>) => {
  if (name === undefined) return Effect.succeed(exports)
  const usable = exports.filter(({ value }) => isApp(value) || isPart(value))
  const one = usable.filter((entry) => entry.name === name)
  if (one.length > 0) return Effect.succeed(one)
  const there = usable.length === 0 ? "it exports no app and no parts" : `there are ${listed(usable)}`
  return Effect.fail(wrong(`${spec}: there is no app and no part of the name ${name}; ${there}`))
}

/** Import it, and say what there is. */
export const load = (spec: string) =>
  Effect.gen(function* () {
    const hash = spec.lastIndexOf("#")
    const [path, name] = hash < 0 ? [spec, undefined] : [spec.slice(0, hash), spec.slice(hash + 1)]
    const files = yield* find(path)
    const exports = (yield* Effect.forEach(files, exportsOf)).flat()
    const app = yield* appOf(spec, yield* selected(spec, name, exports))
    const values = exports.map(({ value }) => value)
    const loose = (yield* selected(spec, name, exports)).map(({ value }) => value).filter(isPart)
    // A part that two files export is one part.
    const parts = app === undefined ? Array.from(new Set(loose)) : app.parts
    const agents = named(values.filter(isAgent))
    const exported: Catalog = {
      topics: named([...values.filter(isTopic), ...Array.from(agents.values(), ({ topic }) => topic)]),
      agents: named(Array.from(agents.values(), ({ contract }) => contract)),
      jobs: named(values.filter(isJob).map(({ spec }) => spec)),
      tables: named(values.filter(isTable)),
      processors: new Map(),
      schedules: new Map()
    }
    const found: Found = {
      ...merge([catalogOf(parts), exported]),
      spec,
      app,
      parts,
      namespace: app === undefined ? undefined : App.namespace(app),
      settings: app?.settings ?? {}
    }
    const isEmpty = parts.length + found.topics.size + found.jobs.size + found.tables.size === 0
    if (app !== undefined || !isEmpty) return found
    const there = exports.length === 0 ? "nothing" : exports.map((one) => one.name).join(", ")
    return yield* wrong(
      `${spec} exports no app, parts, topics or jobs (but ${there}); export App.make({ name, parts }), or the parts`
    )
  })

/** The argument, as every command that needs one has it. */
export const module = Argument.String("module").pipe(
  Argument.withDescription("A TypeScript or JavaScript file, a directory or glob of them, or file#export")
)

/** One of its things by name; a wrong name is told what there is. */
export const pick = <A>(found: Found, kind: string, all: ReadonlyMap<string, A>, name: string) => {
  const one = all.get(name)
  if (one !== undefined) return Effect.succeed(one)
  const there = all.size === 0 ? "there is none" : `there are ${Array.from(all.keys()).toSorted().join(", ")}`
  return Effect.fail(wrong(`there is no ${kind} ${name} in ${found.spec}; ${there}`))
}

/** A topic by name; `<name>.dead` is where its dead letters go. */
export const pickTopic = (found: Found, name: string) => {
  const source = name.endsWith(".dead") ? found.topics.get(name.slice(0, -".dead".length)) : undefined
  return source !== undefined && !found.topics.has(name)
    ? Effect.succeed(Topic.dead(source))
    : pick(found, "topic", found.topics, name)
}
