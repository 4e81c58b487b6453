import { EMBEDDED_MODEL, MAX_APPROVED, type Member, MeshError, type Model } from '../../lib/protocol/index.js'
import { directoryKeys } from '../../lib/store/index.js'
import { authorityAccountKeys } from './accounts.js'
import { type Actor, SYSTEM } from './actor.js'
import { nearby } from './nearby.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** Which models exist: what processors announce, for as long as one of them has it. */
export class Models {
  readonly #writer: StoreWriter

  constructor(writer: StoreWriter) {
    this.#writer = writer
  }

  /**
   * Makes a model known. Says nothing new where the same processor has announced the same file.
   *
   * The first ever is what requests get that name none, and the first real one after the demonstration that comes along.
   * A name that is announced later, whatever it is, changes nothing for them, nor does any once an admin has chosen.
   * @param peer public key of the processor
   * @throws MeshError MODEL_CONFLICT when other processors have another file under this name, FORBIDDEN for a guest
   * that an admin has not approved it for
   */
  announce(peer: string, model: Model, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      const { directory } = this.#writer
      this.#mustMayServe(peer, model.name)
      const known = directory.models.get(model.name)
      const processors = this.#announcers(model.name)
      const others = processors.filter((publicKey) => publicKey !== peer)
      if (known !== undefined && known.hash !== model.hash && others.length > 0) {
        throw MeshError.MODEL_CONFLICT(
          `${model.name} stands for another file on ${others.map((key) => this.#label(key)).join(', ')} (SHA-256 ${known.hash.slice(0, 12)}…, this one ${model.hash.slice(0, 12)}…). Give this one another name`,
          { model: model.name, hash: known.hash },
        )
      }
      if (!processors.includes(peer)) {
        draft.account(authorityAccountKeys.announced(model.name), { processors: [...others, peer] })
      }
      // First: blocks come to a gateway one by one, and where it sees a model it says that requests are served.
      if (this.#isNextDefault(model.name) && directory.members.get(peer)?.trust !== 'guest') {
        this.#draftDefault(draft, SYSTEM, { name: model.name })
      }
      if (known?.hash !== model.hash) draft.directory(directoryKeys.model(model.name), model)
      if (!processors.includes(peer) || known?.hash !== model.hash) {
        draft.audit(this.#label(peer), 'model.announce', model.name, { hash: model.hash })
      }
    }, signal)
  }

  /** Makes a model the one of requests that name none. @throws MeshError MODEL_NOT_FOUND */
  setDefault(by: Actor, name: string, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      const { models, defaultModel, isDefaultChosen } = this.#writer.directory
      if (!models.has(name)) {
        throw MeshError.MODEL_NOT_FOUND(`There is no model ${name}. ${nearby(name, models.keys())}`, { param: 'name' })
      }
      if (defaultModel !== name || !isDefaultChosen) this.#draftDefault(draft, by, { name, chosen: true })
    }, signal)
  }

  /**
   * Lets a guest serve a model.
   * @param processor its name
   * @throws MeshError NOT_FOUND, CONFLICT for one that is no guest or has too many
   */
  approve(by: Actor, name: string, processor: string, signal?: AbortSignal): Promise<Member> {
    return this.#writer.change((draft) => {
      const processors = this.#writer.directory.membersWithRole('processor')
      const member = processors.find((one) => one.name === processor)
      if (member === undefined) {
        const names = processors.map((one) => one.name)
        throw MeshError.NOT_FOUND(`No processor is ${processor}. ${nearby(processor, names)}`, { param: 'processor' })
      }
      const { models = [], trust, publicKey } = member
      if (trust !== 'guest') {
        throw MeshError.CONFLICT(`${label(member)} is one of the mesh's own: it serves what it announces`)
      }
      if (models.includes(name)) return member
      if (models.length >= MAX_APPROVED) {
        throw MeshError.CONFLICT(`${label(member)} has ${models.length} approved models; at most ${MAX_APPROVED}`)
      }
      const approved: Member = { ...member, models: [...models, name] }
      draft.audit(by.user, 'model.approve', name, { processor: label(member), publicKey })
      draft.directory(directoryKeys.member(publicKey), approved)
      return approved
    }, signal)
  }

  /** Takes a model out of the directory once nobody has it. Withdrawing what one has not announced does nothing. */
  withdraw(peer: string, name: string, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => this.#draftWithdraw(draft, peer, name), signal)
  }

  /**
   * Forgets what processors have announced, also of those that are down or have lost the file: one that comes back with it
   * announces it again.
   * @param processor its name; absent: of all
   * @returns names of the processors that had announced it
   * @throws MeshError NOT_FOUND where no processor has this name
   */
  forget(by: Actor, name: string, processor?: string, signal?: AbortSignal): Promise<string[]> {
    return this.#writer.change((draft) => {
      const { directory, accounts } = this.#writer
      const members = directory.membersWithRole('processor', 0)
      const known = members.map((member) => member.name)
      if (processor !== undefined && !known.includes(processor)) {
        throw MeshError.NOT_FOUND(`No processor is ${processor}. ${nearby(processor, known)}`, { param: 'processor' })
      }
      const announcers = accounts.announced.get(name)?.processors ?? []
      const nameOf = (peer: string) => directory.members.get(peer)?.name ?? peer
      const others = announcers.filter((peer) => processor !== undefined && nameOf(peer) !== processor)
      const forgotten = announcers.filter((peer) => !others.includes(peer))
      const isListed = directory.models.has(name) && others.length === 0
      if (forgotten.length === 0 && !(isListed && processor === undefined)) return []
      if (forgotten.length > 0) {
        draft.account(authorityAccountKeys.announced(name), others.length === 0 ? undefined : { processors: others })
      }
      draft.audit(by.user, 'model.forget', name, { processors: forgotten.map((peer) => this.#label(peer)) })
      if (isListed) draft.directory(directoryKeys.model(name), undefined)
      return forgotten.map(nameOf)
    }, signal)
  }

  /** Adds to a change that a removed member has no models any more. */
  draftForget(draft: Draft, peer: string): void {
    for (const name of this.#writer.accounts.announced.keys()) this.#draftWithdraw(draft, peer, name)
  }

  /**
   * Completes withdrawals that a crash cut in two, and gives the homes of earlier versions a default model: the one that
   * it was for them, the first by name.
   */
  async repair(): Promise<void> {
    await this.#writer.change((draft) => {
      const { announced } = this.#writer.accounts
      const [first] = [...this.#writer.directory.models.keys()].filter((name) => announced.has(name)).sort()
      if (first !== undefined && this.#writer.directory.defaultModel === undefined) {
        this.#draftDefault(draft, SYSTEM, { name: first })
      }
      for (const name of this.#writer.directory.models.keys()) {
        if (!this.#writer.accounts.announced.has(name)) draft.directory(directoryKeys.model(name), undefined)
      }
    })
  }

  #draftWithdraw(draft: Draft, peer: string, name: string): void {
    const processors = this.#writer.accounts.announced.get(name)?.processors ?? []
    if (!processors.includes(peer)) return
    const others = processors.filter((publicKey) => publicKey !== peer)
    draft.account(authorityAccountKeys.announced(name), others.length === 0 ? undefined : { processors: others })
    draft.audit(this.#label(peer), 'model.withdraw', name)
    if (others.length === 0) draft.directory(directoryKeys.model(name), undefined)
  }

  #draftDefault(draft: Draft, by: Actor, chosen: { name: string; chosen?: boolean }): void {
    draft.directory(directoryKeys.defaultModel(), chosen)
    draft.audit(by.user, 'model.default', chosen.name)
  }

  /** Whether a model that is announced becomes the one of requests that name none. */
  #isNextDefault(name: string): boolean {
    const { defaultModel, isDefaultChosen } = this.#writer.directory
    if (defaultModel === undefined) return true
    return defaultModel === EMBEDDED_MODEL && !isDefaultChosen && name !== EMBEDDED_MODEL
  }

  #mustMayServe(peer: string, name: string): void {
    const { directory } = this.#writer
    const member = directory.members.get(peer)
    if (member?.trust !== 'guest' || directory.mayServe(peer, name)) return
    throw MeshError.FORBIDDEN(
      `${label(member)} is a guest, and ${name} is not approved for it: infermesh models approve ${name} --processor ${member.name}`,
      { reason: 'guest' },
    )
  }

  /** Processors that announced it and are members still. */
  #announcers(name: string): string[] {
    const processors = this.#writer.accounts.announced.get(name)?.processors ?? []
    return processors.filter((publicKey) => this.#writer.directory.members.has(publicKey))
  }

  #label(publicKey: string): string {
    const member: Member | undefined = this.#writer.directory.members.get(publicKey)
    return member ? label(member) : publicKey
  }
}

function label({ role, name }: Member): string {
  return `${role}/${name}`
}
