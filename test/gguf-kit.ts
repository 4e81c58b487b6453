import { readFile, writeFile } from 'node:fs/promises'

const STRING = 8
const ARRAY = 9
/** Bytes of a value by its type in the GGUF format; strings and arrays have their own lengths. */
const SIZES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 }
const ALIGNMENT = 32

/** Copies a model file and gives the copy another chat template. */
export async function withTemplate(from: string, to: string, template: string): Promise<string> {
  const bytes = await readFile(from)
  const length = (at: number) => Number(bytes.readBigUInt64LE(at))
  const afterString = (at: number) => at + 8 + length(at)
  const afterValue = (at: number, type: number): number => {
    if (type === STRING) return afterString(at)
    if (type !== ARRAY) return at + (SIZES[type] ?? Number.NaN)
    const itemType = bytes.readUInt32LE(at)
    let end = at + 12
    for (let i = length(at + 4); i > 0; i--) end = afterValue(end, itemType)
    return end
  }
  let at = 24
  let place: [number, number] | undefined
  for (let i = length(16); i > 0; i--) {
    const keyEnd = afterString(at)
    const valueEnd = afterValue(keyEnd + 4, bytes.readUInt32LE(keyEnd))
    if (bytes.toString('utf8', at + 8, keyEnd) === 'tokenizer.chat_template') place = [keyEnd + 4, valueEnd]
    at = valueEnd
  }
  if (!place) throw new Error('The model has no chat template')
  for (let i = length(8); i > 0; i--) {
    const nameEnd = afterString(at)
    at = nameEnd + 4 + 8 * bytes.readUInt32LE(nameEnd) + 12
  }
  const text = Buffer.from(template)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  const head = Buffer.concat([bytes.subarray(0, place[0]), size, text, bytes.subarray(place[1], at)])
  const pad = (end: number) => (ALIGNMENT - (end % ALIGNMENT)) % ALIGNMENT
  await writeFile(to, Buffer.concat([head, Buffer.alloc(pad(head.length)), bytes.subarray(at + pad(at))]))
  return to
}

const TURNS = `
  {%- for message in messages %}
    {%- if message.role == 'tool' %}RESULT{% elif message.tool_calls %}CALLS{% else %}
      {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
    {%- endif %}
  {%- endfor %}
  {%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}`

function template(calls: string, result: string): string {
  const tools = `{%- if tools %}{{ '<|system|>\\nTools: ' + (tools | tojson) + '<|end|>\\n' }}{% endif %}`
  return (tools + TURNS).replace('CALLS', calls).replace('RESULT', result)
}

/** Chat templates that know tools, in the forms of well-known families, for the embedded model's tokens. */
export const TOOL_TEMPLATES = {
  hermes: template(
    `{{- '<|assistant|>' }}{% if message.content %}{{ '\\n' + message.content }}{% endif %}
     {%- for call in message.tool_calls %}
       {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
       {{- call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
     {%- endfor %}{{ '<|end|>\\n' }}`,
    `{{- '<|user|>\\n<tool_response>\\n' + message.content + '\\n</tool_response><|end|>\\n' }}`,
  ),
  llama: template(
    `{%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
     {%- set call = message.tool_calls[0].function %}
     {{- '<|assistant|>\\n{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}<|end|>\\n' }}`,
    `{{- '<|user|>\\n' + (message.content | tojson) + '<|end|>\\n' }}`,
  ),
  mistral: template(
    `{{- '<|assistant|>\\n[TOOL_CALLS][' }}
     {%- for call in message.tool_calls %}
       {%- if call.id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}
       {%- set out = call.function | tojson %}
       {{- out[:-1] + ', "id": "' + call.id + '"}' }}{% if not loop.last %}{{ ', ' }}{% endif %}
     {%- endfor %}{{ ']<|end|>\\n' }}`,
    `{{- '<|user|>\\n[TOOL_RESULTS]{"content": ' + message.content + ', "call_id": "' + message.tool_call_id + '"}<|end|>\\n' }}`,
  ),
  tagged: template(
    `{{- '<|assistant|>\\n' }}
     {%- for call in message.tool_calls %}
       {{- '<function=' + call.function.name + '>' + call.function.arguments + '</function>' }}
     {%- endfor %}{{ '<|end|>\\n' }}`,
    `{{- '<|user|>\\n' + message.content + '<|end|>\\n' }}`,
  ),
  /** A special token begins each call. */
  special: template(
    `{{- '<|assistant|>\\n' }}
     {%- for call in message.tool_calls %}
       {{- '<|system|>' + call.function.name + '\\n' + (call.function.arguments | tojson) }}
     {%- endfor %}{{ '<|end|>\\n' }}`,
    `{{- '<|user|>\\n' + message.content + '<|end|>\\n' }}`,
  ),
} as const

/** Bytes of a GGUF header, written by hand: what it says need not be so. */
export const gguf = {
  u32: (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(value)
    return bytes
  },
  u64: (value: number | bigint) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(value))
    return bytes
  },
  text: (text: string) => Buffer.concat([gguf.u64(Buffer.byteLength(text)), Buffer.from(text)]),
  /** Magic, version, and how many tensors and entries it says it has. */
  head: (tensors: number | bigint, entries: number | bigint, version = 3) =>
    Buffer.concat([Buffer.from('GGUF'), gguf.u32(version), gguf.u64(tensors), gguf.u64(entries)]),
  entry: (key: string, type: number, ...value: Buffer[]) => Buffer.concat([gguf.text(key), gguf.u32(type), ...value]),
  string: (key: string, value: string) => gguf.entry(key, STRING, gguf.text(value)),
  number: (key: string, value: number) => gguf.entry(key, 4, gguf.u32(value)),
  list: (key: string, type: number, items: number | bigint, ...bytes: Buffer[]) =>
    gguf.entry(key, ARRAY, gguf.u32(type), gguf.u64(items), ...bytes),
  tensor: (name: string, dimensions: (number | bigint)[], offset: number | bigint, type = 0) =>
    Buffer.concat([
      gguf.text(name),
      gguf.u32(dimensions.length),
      ...dimensions.map((length) => gguf.u64(length)),
      gguf.u32(type),
      gguf.u64(offset),
    ]),
  /** A file of these entries and tensors, with so many bytes of data. */
  file: (entries: Buffer[], tensors: Buffer[], dataBytes = 0) => {
    const head = Buffer.concat([gguf.head(tensors.length, entries.length), ...entries, ...tensors])
    const pad = (ALIGNMENT - (head.byteLength % ALIGNMENT)) % ALIGNMENT
    return Buffer.concat([head, Buffer.alloc(pad + dataBytes)])
  },
}
