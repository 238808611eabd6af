/**
 * Which parts of a stored value are secret: those that its schema has as `Schema.Redacted`. A path is a JSON pointer
 * (`/card/number`, "" for the whole) with `*` for any key or index, so that it can be kept beside what is stored, for
 * those who show values and have no schema.
 *
 * Gotcha: where a secret lies inside something whose stored form the schema alone does not tell (a transformation, an
 * `Option`, a set, the depth of a recursion), all of that is secret.
 */
import type { Schema, SchemaAST } from "effect"

export type Paths = ReadonlyArray<string>

/** What stands where a secret was. */
export const mask = "<redacted>"

type Ast = SchemaAST.AST

// Annotations are typed as unknown.
const idOf = ({ annotations }: Ast): unknown =>
  (annotations?.["representation"] as { readonly id?: unknown } | undefined)?.id

const isRedacted = (ast: Ast): boolean => ast._tag === "Declaration" && idOf(ast) === "effect/schema/Redacted"

const childrenOf = (ast: Ast): ReadonlyArray<Ast> => {
  switch (ast._tag) {
    case "Declaration":
      return ast.typeParameters
    case "Objects":
      return [...ast.propertySignatures, ...ast.indexSignatures].map(({ type }) => type)
    case "Arrays":
      return [...ast.elements, ...ast.rest]
    case "Union":
      return ast.types
    case "Suspend":
      return [ast.thunk()]
    default:
      return []
  }
}

/** Is one anywhere in it, or in what it is stored as? */
const holdsOne = (ast: Ast, seen = new Set<Ast>()): boolean => {
  if (isRedacted(ast)) return true
  if (seen.has(ast)) return false
  seen.add(ast)
  const stored = ast.encoding?.map(({ to }) => to) ?? []
  return [...childrenOf(ast), ...stored].some((child) => holdsOne(child, seen))
}

const escape = (key: string): string => key.replaceAll("~", "~0").replaceAll("/", "~1")
const unescape = (key: string): string => key.replaceAll("~1", "/").replaceAll("~0", "~")

const under = (key: string, paths: Paths): Paths => paths.map((path) => `/${key}${path}`)

const pathsIn = (ast: Ast, above: ReadonlyArray<Ast>): Paths => {
  if (isRedacted(ast)) return [""]
  const whole = (): Paths => (holdsOne(ast) ? [""] : [])
  if (above.includes(ast)) return whole()
  const inner = (child: Ast): Paths => pathsIn(child, [...above, ast])
  if (ast.encoding !== undefined) {
    const [{ to }, ...more] = ast.encoding
    // A class is stored as its fields, whose names stay.
    const isClass = more.length === 0 && ast._tag === "Declaration" && ast.typeParameters[0] === to
    return isClass ? inner(to) : whole()
  }
  switch (ast._tag) {
    case "Objects":
      return [
        ...ast.propertySignatures.flatMap(({ name, type }) => under(escape(String(name)), inner(type))),
        ...ast.indexSignatures.flatMap(({ type }) => under("*", inner(type)))
      ]
    case "Arrays":
      return childrenOf(ast).flatMap((item) => under("*", inner(item)))
    case "Union":
    case "Suspend":
      return childrenOf(ast).flatMap(inner)
    default:
      return whole()
  }
}

const known = new WeakMap<Ast, Paths>()

/** The secret parts of what is stored of a value of this schema. */
export const redactedIn = ({ ast }: Schema.Constraint): Paths => {
  let paths = known.get(ast)
  if (paths === undefined) known.set(ast, (paths = Array.from(new Set(pathsIn(ast, [])))))
  return paths
}

interface Tree {
  /** All of it. */
  whole: boolean
  readonly keys: Map<string, Tree>
}

const treeOf = (paths: Paths): Tree => {
  const root: Tree = { whole: false, keys: new Map() }
  for (const path of paths) {
    let at = root
    for (const key of path.split("/").slice(1).map(unescape)) {
      let next = at.keys.get(key)
      if (next === undefined) at.keys.set(key, (next = { whole: false, keys: new Map() }))
      at = next
    }
    at.whole = true
  }
  return root
}

const hidden = (value: unknown, trees: ReadonlyArray<Tree>): unknown => {
  if (trees.length === 0 || value === null || value === undefined) return value
  // It has another form than was said, such as text with the fields in it.
  if (typeof value !== "object" || trees.some(({ whole }) => whole)) return mask
  const at = (key: string): ReadonlyArray<Tree> =>
    trees.flatMap(({ keys }) => [keys.get(key), keys.get("*")].filter(isThere))
  if (Array.isArray(value)) return value.map((item, index) => hidden(item, at(String(index))))
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, hidden(item, at(key))]))
}

const isThere = (tree: Tree | undefined): tree is Tree => tree !== undefined

/** A plain JSON value without its secrets. */
export const hide = (value: unknown, paths: Paths): unknown =>
  paths.length === 0 ? value : hidden(value, [treeOf(paths)])
