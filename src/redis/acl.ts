/**
 * The smallest Redis ACL rule of an application: its own keys and channels, and the commands that Millrace sends or calls in
 * scripts. A test compares the list with the sources, and runs the laws of the engine as a user of the rule.
 */
import { shardTag } from "./keys.ts"

/** Commands on keys. */
const data = [
  ...["del", "exists", "get", "getrange", "pexpire", "set", "setrange", "unlink"],
  ...["hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hscan", "hset", "hsetnx", "hvals"],
  ...["llen", "lpop", "lpush", "lrem", "rpush"],
  ...["sadd", "srem", "smembers"],
  ...["xadd", "xdel", "xlen", "xrange", "xread", "xrevrange", "xtrim"],
  ...["xgroup|create", "xgroup|destroy", "xgroup|setid", "xinfo|groups", "xinfo|stream"],
  ...["zadd", "zcard", "zcount", "zmscore", "zpopmin", "zrandmember", "zrange", "zrangebyscore", "zrem", "zscore"]
]

/** The others: scripts, messages, and what a connection needs. */
const others = [
  ...["eval", "evalsha", "multi", "exec", "wait", "waitaof", "time"],
  ...["publish", "subscribe", "unsubscribe", "ping", "info", "client|id", "client|unblock"]
]

/** `cluster`: the commands that tell clients where keys are. */
const ofCluster = ["cluster|slots", "cluster|info"]

export interface Rule {
  readonly keys: ReadonlyArray<string>
  readonly channels: ReadonlyArray<string>
  readonly commands: ReadonlyArray<string>
}

export const rule = (namespace: string, options: { readonly cluster: boolean; readonly database: boolean }): Rule => {
  // Of the namespace itself, and of each of its shards; braces mean nothing in a pattern.
  const names = [`{${namespace}}:*`, `${shardTag(namespace, 0).replace(":0", ":*")}:*`]
  return {
    keys: names,
    channels: names,
    commands: [...data, ...others, ...(options.cluster ? ofCluster : []), ...(options.database ? ["select"] : [])]
  }
}

/** As `ACL SETUSER` takes it, behind the user's name. */
export const rulesOf = ({ channels, commands, keys }: Rule): ReadonlyArray<string> => [
  ...keys.map((pattern) => `~${pattern}`),
  ...channels.map((pattern) => `&${pattern}`),
  ...commands.map((command) => `+${command}`)
]
