/** What a schema says is secret, as paths, and values without it. */
import { Effect, Option, Redacted, Schema } from "effect"
import { assert, describe, it } from "vitest"
import { hide, mask, redactedIn } from "../../src/internal/record/redacted.ts"

const Secret = Schema.Redacted(Schema.String)

class Card extends Schema.Class<Card>("Card")({
  number: Schema.RedactedFromValue(Schema.String),
  owner: Schema.String
}) {}

interface Folder {
  readonly name: string
  readonly key: Redacted.Redacted<string>
  readonly inner: ReadonlyArray<Folder>
}
const Folder = Schema.Struct({
  name: Schema.String,
  key: Secret,
  inner: Schema.Array(Schema.suspend((): Schema.Codec<Folder, unknown> => Folder))
})

interface Tree {
  readonly leaves: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({ leaves: Schema.Array(Schema.suspend((): Schema.Codec<Tree, unknown> => Tree)) })

describe("redactedIn", () => {
  const cases: ReadonlyArray<readonly [what: string, schema: Schema.Constraint, paths: ReadonlyArray<string>]> = [
    ["nothing secret", Schema.Struct({ a: Schema.String, b: Schema.Option(Schema.Date) }), []],
    ["the whole", Secret, [""]],
    ["one with a check", Secret.check(Schema.makeFilter(() => true)).annotate({ title: "t" }), [""]],
    ["fields", Schema.Struct({ a: Secret, b: Schema.optionalKey(Secret), c: Schema.String }), ["/a", "/b"]],
    ["names that hold marks", Schema.Struct({ "a/b": Secret, "c~d": Secret }), ["/a~1b", "/c~0d"]],
    [
      "arrays and tuples",
      Schema.Struct({ a: Schema.Array(Secret), b: Schema.Tuple([Schema.Int, Secret]) }),
      ["/a/*", "/b/*"]
    ],
    ["any key", Schema.Record(Schema.String, Schema.Struct({ a: Secret })), ["/*/a"]],
    ["each of a union", Schema.Union([Schema.Struct({ a: Secret }), Schema.Struct({ b: Secret })]), ["/a", "/b"]],
    ["what may be null", Schema.Struct({ a: Schema.NullOr(Secret) }), ["/a"]],
    ["a class", Schema.Struct({ card: Card }), ["/card/number"]],
    ["an option, whole", Schema.Struct({ a: Schema.Option(Schema.Struct({ b: Secret })) }), ["/a"]],
    ["a set, whole", Schema.HashSet(Secret), [""]],
    [
      "fields under other names, whole",
      Schema.Struct({ a: Schema.Struct({ b: Secret }).pipe(Schema.encodeKeys({ b: "c" })) }),
      ["/a"]
    ],
    [
      "text with fields in it, whole",
      Schema.Struct({ a: Schema.fromJsonString(Schema.Struct({ b: Secret })) }),
      ["/a"]
    ],
    ["a recursion, whole beneath the first turn", Folder, ["/key", "/inner/*"]],
    ["a recursion without any", Tree, []]
  ]
  for (const [what, schema, paths] of cases) {
    it(what, () => assert.deepStrictEqual(redactedIn(schema), paths))
  }
})

describe("hide", () => {
  it("masks what the paths lead to, and nothing else", () => {
    const value = { a: [{ pw: "s1", n: 1 }, { pw: null }, { n: 2 }], b: { x: "s2", y: "s3" }, c: "open" }
    assert.deepStrictEqual(hide(value, ["/a/*/pw", "/b/*", "/none/at/all"]), {
      a: [{ pw: mask, n: 1 }, { pw: null }, { n: 2 }],
      b: { x: mask, y: mask },
      c: "open"
    })
    assert.strictEqual(hide("s", [""]), mask)
    assert.strictEqual(hide(value, []), value)
  })

  it("masks what is of another form than the paths say", () => {
    assert.deepStrictEqual(hide({ a: '{"pw":"s"}' }, ["/a/pw"]), { a: mask })
  })

  it("keys with marks are found again", () => {
    const value = { "a/b": "s", "c~d": "s", "~1": "open" }
    assert.deepStrictEqual(hide(value, redactedIn(Schema.Struct({ "a/b": Secret, "c~d": Secret }))), {
      "a/b": mask,
      "c~d": mask,
      "~1": "open"
    })
  })

  const secret = Redacted.make("hunter2")
  const values: ReadonlyArray<readonly [schema: Schema.ConstraintCodec<any, any>, value: unknown]> = [
    [Schema.Struct({ card: Card }), { card: new Card({ number: secret, owner: "ada" }) }],
    [Schema.Option(Secret), Option.some(secret)],
    [Schema.Array(Schema.Struct({ a: Secret })), [{ a: secret }, { a: secret }]],
    [Folder, { name: "a", key: secret, inner: [{ name: "b", key: secret, inner: [] }] }],
    [Schema.Struct({ b: Secret }).pipe(Schema.encodeKeys({ b: "c" })), { b: secret }]
  ]
  it("no secret is left of what a schema encodes, in either form", async () => {
    for (const [schema, value] of values) {
      const json = await Effect.runPromise(Schema.encodeUnknownEffect(Schema.toCodecJson(schema))(value))
      assert.include(JSON.stringify(json), "hunter2")
      assert.notInclude(JSON.stringify(hide(json, redactedIn(schema))), "hunter2")
    }
  })
})
