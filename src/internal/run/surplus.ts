/**
 * Says so, once, when a worker is left without partitions of a processor since all are with others; again only after it
 * had some. The statement of a member tells of nobody else, so the group is looked at, but only until that is known.
 */
import { type Context, Effect } from "effect"
import { type Coordinator, leaderGroup, type Owned } from "../../Coordinator.ts"

/** Given each statement that was acted on; what is to be done about it is done beside, and fails nothing. */
export type Surplus = (mine: ReadonlyArray<Owned>) => Effect.Effect<void>

export const make = (
  coordinator: Pick<Context.Service.Shape<typeof Coordinator>, "group">,
  processors: Iterable<string>
): Surplus => {
  // One leader is all there can be.
  const watched = Array.from(processors).filter((name) => name !== leaderGroup)
  const settled = new Set<string>()

  const look = Effect.fnUntraced(function* (processor: string) {
    const { owners, partitions, quarantined } = yield* coordinator.group(processor)
    const owning = owners.flatMap((owner) => owner?.member ?? [])
    const others = new Set(owning)
    // They are being dealt out yet: some have no owner, or somebody has one to give.
    if (owning.length + quarantined.length < partitions || others.size < owning.length) return
    if (others.size === 0 || settled.has(processor)) return
    settled.add(processor)
    yield* Effect.logInfo(
      `no partition is left for this worker: there are ${partitions}, with ${others.size} others; it stands by, and takes ` +
        "over when one of them goes; only more partitions would give it work now"
    ).pipe(Effect.annotateLogs({ processor }))
  })

  return (mine) => {
    const busy = new Set(mine.map(({ processor }) => processor))
    for (const processor of busy) settled.delete(processor)
    const idle = watched.filter((processor) => !busy.has(processor) && !settled.has(processor))
    return Effect.ignore(Effect.forEach(idle, look, { discard: true }))
  }
}
