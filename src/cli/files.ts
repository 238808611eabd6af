/**
 * Which files a `<module>` means: one file, all modules of a directory, or a glob. Test files, declarations and what is
 * installed are left out. Files are imported in the order of their names, so that it is the same each time.
 */
import { glob } from "node:fs/promises"
import { dirname, relative, resolve, sep } from "node:path"
import { Effect, FileSystem } from "effect"
import { WrongUse } from "./failures.ts"

const isModule = (file: string): boolean => /\.[cm]?[jt]sx?$/.test(file) && !/\.d\.[cm]?ts$/.test(file)

const isTest = (file: string): boolean =>
  /\.(?:test|spec|bench)\.[cm]?[jt]sx?$/.test(file) ||
  file.split(sep).some((part) => /^(?:__tests__|tests?)$/.test(part))

const isInstalled = (file: string): boolean => file.split(sep).includes("node_modules")

/** As it is shown: from here, if it is below. */
export const shown = (file: string): string => {
  const path = relative("", file)
  return path === "" || path.startsWith("..") ? file : path
}

const matching = (pattern: string) =>
  Effect.map(
    Effect.tryPromise({
      try: async () => {
        const found: Array<string> = []
        for await (const file of glob(pattern)) found.push(resolve(file))
        return found
      },
      catch: () => new WrongUse({ message: `${pattern} is no glob that can be followed` })
    }),
    (found) =>
      found
        .filter((file) => isModule(file) && !isTest(relative("", file)) && !isInstalled(relative("", file)))
        .toSorted()
  )

/** What lies where the file should be, for the message. */
const beside = (file: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directory = dirname(resolve(file))
    const names = yield* Effect.orElseSucceed(fs.readDirectory(directory), () => undefined)
    if (names === undefined) return `there is no directory ${shown(directory)} either`
    const modules = names.filter(isModule).toSorted()
    const some = modules.slice(0, 10).join(", ")
    return modules.length === 0 ? "no module lies there" : `there are ${some}${modules.length > 10 ? " ..." : ""}`
  })

/** Absolute paths; at least one. */
export const find = (spec: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const info = yield* Effect.option(fs.stat(spec))
    if (info._tag === "Some" && info.value.type === "File") return [resolve(spec)]
    const isDirectory = info._tag === "Some"
    if (!isDirectory && !/[*?[{]/.test(spec)) {
      return yield* new WrongUse({ message: `there is no file ${spec}; ${yield* beside(spec)}` })
    }
    const found = yield* matching(isDirectory ? `${spec}/**/*` : spec)
    if (found.length > 0) return found
    return yield* new WrongUse({
      message: `${spec} matches no TypeScript or JavaScript file (test files and node_modules are left out)`
    })
  })
