/**
 * What the engines keep of a job's name beside its queue: nothing that must agree, only what its last program said. It is
 * for those who have no definition of the job: tools, and the pages that people look at.
 */
import type { JobFacts } from "../JobStore.ts"

type Paths = ReadonlyArray<string>

/** As it is stored: JSON; undefined if there is nothing to store. */
export const encode = ({ payload, progress, success }: JobFacts): string | undefined => {
  const some = Object.entries({ payload, success, progress }).filter(([, paths]) => paths.length > 0)
  return some.length === 0 ? undefined : JSON.stringify(Object.fromEntries(some))
}

export const decode = (name: string, text: string): JobFacts => {
  const { payload = [], progress = [], success = [] } = JSON.parse(text) as Partial<Record<string, Paths>>
  return { name, payload, success, progress }
}
