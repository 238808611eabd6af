/**
 * The smallest Redis ACL rule of an application: its own keys and channels, and the commands that Millrace sends or calls in
 * scripts. A test compares the list with the sources, and runs the laws of the engine as a user of the rule.
 */
import { shardTag } from "./keys.ts"

/** Commands on keys. */
const data = [
  ...["del", "exists", "get", "getrange", "pexpire", "pttl", "set", "setrange", "unlink"],
  ...["hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hscan", "hset", "hsetnx", "hvals"],
  ...["llen", "lpop", "lpush", "lrange", "lrem", "rpush"],
  ...["sadd", "srem", "smembers"],
  ...["xadd", "xdel", "xlen", "xrange", "xread", "xrevrange", "xtrim"],
  ...["xgroup|create", "xgroup|destroy", "xgroup|setid", "xinfo|groups", "xinfo|stream"],
  ...["zadd", "zcard", "zcount", "zmscore", "zpopmin", "zrandmember", "zrange", "zrangebyscore", "zrem", "zscore"]
]

/** The others: scripts, messages, and what a connection needs. */
const others = [
  ...["eval", "evalsha", "multi", "exec", "wait", "time"],
  ...["publish", "subscribe", "unsubscribe", "ping", "info", "client|id", "client|unblock"]
]

/** Where keys are. */
const ofCluster = ["cluster|slots", "cluster|info"]

export interface Rule {
  readonly keys: ReadonlyArray<string>
  readonly channels: ReadonlyArray<string>
  readonly commands: ReadonlyArray<string>
}

export interface RuleOptions {
  readonly cluster?: boolean | undefined
  /** The URL names a database. */
  readonly database?: boolean | undefined
  /** Writes of durability "fsync"; servers before Redis 7.2 do not know the command. */
  readonly fsync?: boolean | undefined
}

export const rule = (namespace: string, { cluster, database, fsync }: RuleOptions = {}): Rule => {
  // Of the namespace itself, and of each of its shards; braces mean nothing in a pattern.
  const names = [`{${namespace}}:*`, `${shardTag(namespace, 0).replace(":0", ":*")}:*`]
  return {
    keys: names,
    channels: names,
    commands: [
      ...data,
      ...others,
      ...(cluster === true ? ofCluster : []),
      ...(database === true ? ["select"] : []),
      ...(fsync === true ? ["waitaof"] : [])
    ]
  }
}

/** As `ACL SETUSER` takes it, behind the user's name. */
export const rulesOf = ({ channels, commands, keys }: Rule): ReadonlyArray<string> => [
  ...keys.map((pattern) => `~${pattern}`),
  ...channels.map((pattern) => `&${pattern}`),
  ...commands.map((command) => `+${command}`)
]
