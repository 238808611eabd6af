/** `millrace acl`: the smallest Redis ACL rule for an app, ready for `redis-cli`. No engine is asked. */
import { Config, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { isName } from "../internal/names.ts"
import * as Redis from "../Redis.ts"
import { WrongUse } from "./failures.ts"
import { Namespace, note } from "./globals.ts"
import { load, module } from "./modules.ts"
import { show } from "./output.ts"

const flag = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withoutNegation, Flag.withDefault(false))

export const acl = Command.make(
  "acl",
  {
    module: Argument.optional(module),
    user: Flag.String("user").pipe(Flag.withDescription("The user's name; default: the namespace"), Flag.optional),
    cluster: flag("cluster", "For Redis Cluster"),
    database: flag("database", "For a URL that names another database than 0"),
    fsync: flag("fsync", 'For writes of durability "fsync": Redis 7.2 or later')
  },
  Effect.fn(function* ({ cluster, database, fsync, module, user }) {
    const found = Option.isSome(module) ? yield* load(module.value) : undefined
    const given = Option.firstSomeOf([yield* Namespace, yield* Config.option(Config.String("MILLRACE_NAMESPACE"))])
    const namespace = Option.getOrUndefined(given) ?? found?.namespace ?? "millrace"
    const name = Option.getOrElse(user, () => namespace)
    const wrong = isName(namespace) ? (isName(name) ? undefined : name) : namespace
    if (wrong !== undefined) {
      return yield* new WrongUse({
        message: `${JSON.stringify(wrong)} is no name: letters, digits, ".", "_" and "-" only, a letter or digit first`
      })
    }
    const rule = Redis.rule(namespace, { cluster, database, fsync })
    const rules = ["reset", "on", ">PASSWORD", ...Redis.rulesOf(rule)]
    yield* show({ user: name, namespace, ...rule, rules }, () => [`ACL SETUSER ${name} ${rules.join(" ")}`])
    yield* note("put a password in the place of PASSWORD, and run it in redis-cli (it takes the line as it is)")
  })
).pipe(Command.withDescription("Print the smallest Redis ACL rule for an app"))
