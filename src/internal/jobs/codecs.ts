/** The codecs of a job under the serializer of the program, each compiled at its first use. */
import type { Codec } from "../../Serializer.ts"
import { compile, type ValueCodec } from "./codec.ts"
import type { Spec } from "./spec.ts"

export type Part = "payload" | "success" | "error" | "progress"

type Codecs = { [part in Part]: ValueCodec | undefined }

const known = new WeakMap<Spec, WeakMap<Codec, Codecs>>()

const codecsOf = (spec: Spec, serializer: Codec): Codecs => {
  let bySerializer = known.get(spec)
  if (bySerializer === undefined) known.set(spec, (bySerializer = new WeakMap()))
  let codecs = bySerializer.get(serializer)
  if (codecs === undefined) {
    codecs = { payload: undefined, success: undefined, error: undefined, progress: undefined }
    bySerializer.set(serializer, codecs)
  }
  return codecs
}

/** Jobs come in runs of one kind. */
let latest: { readonly spec: Spec; readonly serializer: Codec; readonly codecs: Codecs } | undefined

export const codecOf = (spec: Spec, part: Part, serializer: Codec): ValueCodec => {
  if (latest?.spec !== spec || latest.serializer !== serializer) {
    latest = { spec, serializer, codecs: codecsOf(spec, serializer) }
  }
  return (latest.codecs[part] ??= compile(
    `the ${part} of job ${spec.name}`,
    spec[part],
    spec.serializer ?? serializer,
    spec.maxBytes
  ))
}
