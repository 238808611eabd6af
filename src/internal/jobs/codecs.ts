/** The codecs of a job under the serializer of the program, each compiled at its first use. */
import type { Codec } from "../../Serializer.ts"
import { compile, type ValueCodec } from "./codec.ts"
import type { Spec } from "./spec.ts"

export type Part = "payload" | "success" | "error" | "progress"

const known = new WeakMap<Spec, WeakMap<Codec, Map<Part, ValueCodec>>>()

export const codecOf = (spec: Spec, part: Part, serializer: Codec): ValueCodec => {
  let bySerializer = known.get(spec)
  if (bySerializer === undefined) known.set(spec, (bySerializer = new WeakMap()))
  let byPart = bySerializer.get(serializer)
  if (byPart === undefined) bySerializer.set(serializer, (byPart = new Map()))
  let codec = byPart.get(part)
  if (codec === undefined) {
    const target = `the ${part} of job ${spec.name}`
    byPart.set(part, (codec = compile(target, spec[part], spec.serializer ?? serializer, spec.maxBytes)))
  }
  return codec
}
