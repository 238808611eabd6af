/**
 * Who should run which partition: the pure heart of the coordinator. What members have stays, as few partitions as
 * possible move, and no two members differ by more than one. `redis/books.ts` has the same algorithm in Lua: whatever is
 * changed here is changed there, and `test/targets.test.ts` holds the two against each other.
 */
import { createHash } from "node:crypto"

/**
 * Where a member stands in a group: 36 bits of a hash of both names, so that the members who get one partition more are
 * others in each group. Redis has SHA-1 at hand, and a number needs no collation, which its Lua takes from the locale.
 */
const rankOf = (group: string, member: string): number =>
  Number.parseInt(createHash("sha1").update(`${group} ${member}`).digest("hex").slice(0, 9), 16)

/**
 * The member for each partition, as an index into `members`; empty without members. `owners` and `wanted` are by
 * partition: who runs it now (live members only), and the target computed last. The last targets only break ties, so
 * that computing again in the midst of a hand-over changes nothing. Partitions that are aside are for nobody.
 */
export const targets = (
  group: string,
  members: ReadonlyArray<string>,
  owners: ReadonlyArray<number | undefined>,
  wanted: ReadonlyArray<number | undefined>,
  aside: ReadonlySet<number> = none
): ReadonlyArray<number | undefined> => {
  const count = members.length
  if (count === 0) return []
  const order = ranked(group, members)
  const room = quotas(order, owners, wanted, aside)
  const target = new Array<number | undefined>(owners.length).fill(undefined)
  const take = (candidates: (partition: number) => number | undefined): void => {
    for (let partition = 0; partition < target.length; partition++) {
      if (aside.has(partition) || target[partition] !== undefined) continue
      const member = candidates(partition)
      if (member !== undefined && room[member]! > 0) {
        target[partition] = member
        room[member]!--
      }
    }
  }
  take((partition) => (owners[partition] === wanted[partition] ? owners[partition] : undefined))
  take((partition) => owners[partition])
  take((partition) => wanted[partition])
  let next = 0
  take(() => {
    while (next < count && room[order[next]!] === 0) next++
    return order[next]
  })
  return target
}

const none: ReadonlySet<number> = new Set()

/** The members in the order of their ranks. */
const ranked = (group: string, members: ReadonlyArray<string>): ReadonlyArray<number> => {
  const byRank = new Map<number, number>()
  for (let member = 0; member < members.length; member++) {
    let rank = rankOf(group, members[member]!)
    while (byRank.has(rank)) rank++
    byRank.set(rank, member)
  }
  return [...byRank.keys()].sort((a, b) => a - b).map((rank) => byRank.get(rank)!)
}

/**
 * How many each member is to have. One more than the rest goes first to those who have more already, because each such
 * place saves a move, and among them to those who were given it last time.
 */
const quotas = (
  order: ReadonlyArray<number>,
  owners: ReadonlyArray<number | undefined>,
  wanted: ReadonlyArray<number | undefined>,
  aside: ReadonlySet<number>
): Array<number> => {
  const count = order.length
  let free = owners.length
  const have = new Array<number>(count).fill(0)
  const want = new Array<number>(count).fill(0)
  for (let partition = 0; partition < owners.length; partition++) {
    if (aside.has(partition)) {
      free--
      continue
    }
    const owner = owners[partition]
    const last = wanted[partition]
    if (owner !== undefined) have[owner]!++
    if (last !== undefined) want[last]!++
  }
  const base = Math.floor(free / count)
  const quota = new Array<number>(count).fill(base)
  let extra = free - base * count
  for (let pass = 1; pass <= 4 && extra > 0; pass++) {
    for (const member of order) {
      if (extra === 0) break
      const owns = have[member]! > base
      const wants = want[member]! > base
      const chosen = pass === 1 ? owns && wants : pass === 2 ? owns : pass === 3 ? wants : true
      if (chosen && quota[member] === base) {
        quota[member]!++
        extra--
      }
    }
  }
  return quota
}
