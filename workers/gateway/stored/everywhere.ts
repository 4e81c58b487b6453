import {
  type InputOf,
  MAX_PIECE_BYTES,
  MeshError,
  type ResponseOf,
  type StoredObject,
  type StoredView,
} from '../../../lib/protocol/index.js'
import { cursorOf } from './entry.js'
import type { Found, LocalStored, Wanted } from './local.js'
import { isWhole, placeOf } from './record.js'
import type { Owner } from './shelves.js'
import { Turns } from './turns.js'

const RETRY_MS = 2000
/** How often something that changed while it was read is read anew. */
const READS = 2
const LISTS = { most: 16, mostPerUser: 2, mostWaiting: 64 }
const ASKS = { most: 64, mostPerUser: 8, mostWaiting: 256 }
/** Of what is missing, as many names are told. */
const MOST_NAMES = 5

type StoredMethod = 'stored.find' | 'stored.read' | 'stored.list' | 'stored.delete' | 'stored.update' | 'stored.cancel'

/** Another gateway of the mesh. */
export interface OtherGateway {
  readonly name: string
  call<M extends StoredMethod>(name: M, body: InputOf<M>): Promise<ResponseOf<M>>
}

/** The other gateways of the mesh: those that can be asked, and the names of those that cannot. */
export interface OtherGateways {
  linked: readonly OtherGateway[]
  missing: readonly string[]
}

/** Nothing is kept under other ids, and nobody need be asked about them. */
const MAX_ID_CHARS = 100

/** What the others said, and the names of those that said nothing. */
interface Answers<M extends StoredMethod> {
  answers: { at: OtherGateway; answer: ResponseOf<M> }[]
  silent: string[]
}

/** Something of a list, and which gateway has it; undefined: this one. */
export interface Listed {
  id: string
  createdAt: number
  at: OtherGateway | undefined
}

/**
 * What the gateways of the mesh keep, whichever has it. Where nobody has something, and somebody did not answer, that is
 * said: it may be there.
 */
export class Stored {
  readonly local: LocalStored
  readonly #others: () => OtherGateways
  /** One caller's questions are many: each goes to all gateways. */
  readonly #asks = new Turns(ASKS)
  /** Lists of objects are long. */
  readonly lists = new Turns(LISTS)

  constructor(local: LocalStored, others: () => OtherGateways) {
    this.local = local
    this.#others = others
  }

  /**
   * A view of something.
   * @returns undefined where no gateway has it
   * @throws MeshError PEER_NOT_FOUND where it may be at one that does not answer, STORE_INVALID, RATE_LIMITED
   */
  async read(owner: Owner, id: string, view: StoredView): Promise<Found | undefined> {
    if (!isKept(id)) return undefined
    const here = await this.#readHere(owner, id, view)
    if (here !== undefined) return here
    const { at, answer } = await this.#first('stored.find', { ...owner, id, view }, ({ found }) =>
      this.local.mayOwn(owner, found?.createdAt),
    )
    return at && this.#readAll(at, owner, id, view, answer)
  }

  async #readHere(owner: Owner, id: string, view: StoredView): Promise<Found | undefined> {
    // Before the file is read: it has the end by the time at which nothing is being made any more.
    const live = view === 'object' ? this.local.live.object(owner, id) : undefined
    const read = await this.local.read(owner, id, view)
    return read && live !== undefined ? { ...read, bytes: live } : read
  }

  /** A view of something that this gateway has been told of. @returns undefined where it is gone meanwhile */
  async readAt({ id, at }: Listed, owner: Owner, view: StoredView): Promise<Found | undefined> {
    return at === undefined ? this.#readHere(owner, id, view) : this.#readAll(at, owner, id, view)
  }

  /** Where something stands in a list, for `after`. @returns undefined where no gateway has it @throws as `read` does */
  async place(owner: Owner, id: string, order: Wanted['order']): Promise<string | undefined> {
    if (!isKept(id)) return undefined
    const here = await this.local.find(owner, id)
    if (here !== undefined) return cursorOf(here, order)
    const { answer } = await this.#first('stored.find', { ...owner, id }, ({ createdAt }) =>
      this.local.mayOwn(owner, createdAt),
    )
    return answer?.createdAt === undefined ? undefined : cursorOf({ id, createdAt: answer.createdAt }, order)
  }

  /** Deletes it wherever it is. @returns false where no gateway has it @throws MeshError PEER_NOT_FOUND */
  async delete(owner: Owner, id: string): Promise<boolean> {
    if (!isKept(id)) return false
    const [here, there] = await Promise.allSettled([
      this.local.delete(owner, id),
      this.#all('stored.delete', { ...owner, id }),
    ])
    if (here.status === 'rejected') throw here.reason
    if (here.value) return true
    if (there.status === 'rejected') throw there.reason
    if (there.value.answers.some(({ answer }) => answer.deleted)) return true
    assertAll(there.value.silent)
    return false
  }

  /** Replaces its metadata. @returns false where no gateway has it @throws MeshError PEER_NOT_FOUND, DISK_FULL */
  async update(owner: Owner, id: string, metadata: string, tags: string[]): Promise<boolean> {
    if (!isKept(id)) return false
    if (await this.local.update(owner, id, metadata, tags)) return true
    const { at } = await this.#first('stored.update', { ...owner, id, metadata, tags }, ({ updated }) => updated)
    return at !== undefined
  }

  /** Ends what is being made, wherever that is. @returns false where nothing is being made @throws MeshError PEER_NOT_FOUND */
  async cancel(owner: Owner, id: string): Promise<boolean> {
    if (!isKept(id)) return false
    const here = this.local.live.get(owner, id)
    if (here !== undefined) {
      await here.cancel()
      return true
    }
    const { answers } = await this.#all('stored.cancel', { ...owner, id })
    return answers.some(({ answer }) => answer.cancelled)
  }

  /**
   * One page of what a key has at all gateways, in the order of time.
   * @throws MeshError PEER_NOT_FOUND where one of them does not answer
   */
  async list(owner: Owner, wanted: Wanted): Promise<{ items: Listed[]; hasMore: boolean }> {
    const { tags = [], after, ...rest } = wanted
    const body = { ...owner, ...rest, tags: [...tags], ...(after !== undefined && { after }) }
    const [here, { answers, silent }] = await Promise.all([
      this.local.list(owner, wanted),
      this.#all('stored.list', body),
    ])
    assertAll(silent)
    // One that has not heard that the user of this name is another by now has the former one's still.
    const own = answers.filter(({ answer }) =>
      answer.items.every(({ createdAt }) => this.local.mayOwn(owner, createdAt)),
    )
    const lists = [{ answer: here, at: undefined }, ...own]
    const all = lists.flatMap(({ answer, at }) => answer.items.map(({ id, createdAt }) => ({ id, createdAt, at })))
    const sorted = all
      .map((item) => ({ item, cursor: cursorOf(item, wanted.order) }))
      .sort((a, b) => (a.cursor < b.cursor ? -1 : 1))
      .map(({ item }) => item)
    return {
      items: sorted.slice(0, wanted.limit),
      hasMore: sorted.length > wanted.limit || lists.some(({ answer }) => answer.has_more),
    }
  }

  /** The first other gateway that has it; none where no gateway has. @throws MeshError PEER_NOT_FOUND and what it answers */
  #first<M extends StoredMethod>(
    name: M,
    body: InputOf<M>,
    has: (answer: ResponseOf<M>) => boolean,
  ): Promise<{ at?: OtherGateway; answer?: ResponseOf<M> }> {
    return this.#asks.run(body.user, () => this.#askFirst(name, body, has))
  }

  async #askFirst<M extends StoredMethod>(
    name: M,
    body: InputOf<M>,
    has: (answer: ResponseOf<M>) => boolean,
  ): Promise<{ at?: OtherGateway; answer?: ResponseOf<M> }> {
    const { linked, missing } = this.#others()
    const silent = [...missing]
    let failure: MeshError | undefined
    const asked = linked.map(async (at) => {
      try {
        const answer = await at.call(name, body)
        if (has(answer)) return { at, answer }
      } catch (err) {
        const error = MeshError.from(err)
        if (isOwnFailure(error)) failure = error
        else silent.push(at.name)
      }
      throw new Error('not here')
    })
    try {
      return await Promise.any(asked)
    } catch {
      if (failure !== undefined) throw failure
      assertAll(silent)
      return {}
    }
  }

  #all<M extends StoredMethod>(name: M, body: InputOf<M>): Promise<Answers<M>> {
    return this.#asks.run(body.user, () => this.#askAll(name, body))
  }

  async #askAll<M extends StoredMethod>(name: M, body: InputOf<M>): Promise<Answers<M>> {
    const { linked, missing } = this.#others()
    const silent = [...missing]
    const answers: { at: OtherGateway; answer: ResponseOf<M> }[] = []
    await Promise.all(
      linked.map(async (at) => {
        try {
          answers.push({ at, answer: await at.call(name, body) })
        } catch (err) {
          const error = MeshError.from(err)
          if (isOwnFailure(error)) throw error
          silent.push(at.name)
        }
      }),
    )
    return { answers, silent }
  }

  /** All of a view, piece by piece where it is long. @param begun what the gateway has answered already */
  async #readAll(
    at: OtherGateway,
    owner: Owner,
    id: string,
    view: StoredView,
    begun?: ResponseOf<'stored.find'>,
  ): Promise<Found | undefined> {
    for (let i = 0; i < READS; i++) {
      const { found: head, data = '', live } = begun ?? (await this.#ask(at, 'stored.find', { ...owner, id, view }))
      begun = undefined
      if (head === undefined) return undefined
      if (live !== undefined) return { head, bytes: Buffer.from(live, 'base64') }
      const bytes = await this.#pieces(at, { ...owner, id, view }, head, Buffer.from(data, 'base64'))
      if (bytes !== undefined && (await isWhole(head, view, bytes))) return { head, bytes }
    }
    throw MeshError.STORE_INVALID(`${id} is stored at ${at.name}, and what came of it is damaged or changes too fast`)
  }

  async #pieces(
    at: OtherGateway,
    asked: Omit<InputOf<'stored.read'>, 'offset'>,
    head: StoredObject,
    first: Buffer,
  ): Promise<Buffer | undefined> {
    const { sizeBytes } = placeOf(head, asked.view)
    const pieces = [first]
    let length = first.byteLength
    while (length < sizeBytes && pieces.at(-1)?.byteLength === MAX_PIECE_BYTES) {
      const { data } = await this.#ask(at, 'stored.read', { ...asked, offset: length })
      const piece = Buffer.from(data, 'base64')
      pieces.push(piece)
      length += piece.byteLength
    }
    return length === sizeBytes ? Buffer.concat(pieces, length) : undefined
  }

  async #ask<M extends StoredMethod>(at: OtherGateway, name: M, body: InputOf<M>): Promise<ResponseOf<M>> {
    try {
      return await at.call(name, body)
    } catch (err) {
      const error = MeshError.from(err)
      if (isOwnFailure(error)) throw error
      throw unanswered([at.name])
    }
  }
}

function isKept(id: string): boolean {
  return id.length > 0 && id.length <= MAX_ID_CHARS
}

/** Whether a gateway has answered, though not with what was asked for. */
function isOwnFailure({ code }: MeshError): boolean {
  return code === 'STORE_INVALID' || code === 'RATE_LIMITED' || code === 'DISK_FULL'
}

/** @throws MeshError PEER_NOT_FOUND */
function assertAll(silent: readonly string[]): void {
  if (silent.length > 0) throw unanswered(silent)
}

function unanswered(names: readonly string[]): MeshError {
  return MeshError.PEER_NOT_FOUND(
    `It may be stored at a gateway that does not answer now (${names.slice(0, MOST_NAMES).join(', ')}). Try again, or remove that gateway from the mesh if it is gone for good`,
    { retryAfterMs: RETRY_MS },
  )
}
