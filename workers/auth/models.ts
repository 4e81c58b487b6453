import { type Member, MeshError, type Model } from '../../lib/protocol/index.js'
import { directoryKeys } from '../../lib/store/index.js'
import { authorityAccountKeys } from './accounts.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** Which models exist: what processors announce, for as long as one of them has it. */
export class Models {
  readonly #writer: StoreWriter

  constructor(writer: StoreWriter) {
    this.#writer = writer
  }

  /**
   * Makes a model known. Says nothing new where the same processor has announced the same file.
   * @param peer public key of the processor
   * @throws MeshError MODEL_CONFLICT when other processors have another file under this name
   */
  announce(peer: string, model: Model, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      const known = this.#writer.directory.models.get(model.name)
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
      if (known?.hash !== model.hash) draft.directory(directoryKeys.model(model.name), model)
      if (!processors.includes(peer) || known?.hash !== model.hash) {
        draft.audit(this.#label(peer), 'model.announce', model.name, { hash: model.hash })
      }
    }, signal)
  }

  /** Takes a model out of the directory once nobody has it. Withdrawing what one has not announced does nothing. */
  withdraw(peer: string, name: string, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => this.#draftWithdraw(draft, peer, name), signal)
  }

  /** Adds to a change that a removed member has no models any more. */
  draftForget(draft: Draft, peer: string): void {
    for (const name of this.#writer.accounts.announced.keys()) this.#draftWithdraw(draft, peer, name)
  }

  /** Completes withdrawals that a crash cut in two. */
  async repair(): Promise<void> {
    await this.#writer.change((draft) => {
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

  /** Processors that announced it and are members still. */
  #announcers(name: string): string[] {
    const processors = this.#writer.accounts.announced.get(name)?.processors ?? []
    return processors.filter((publicKey) => this.#writer.directory.members.has(publicKey))
  }

  #label(publicKey: string): string {
    const member: Member | undefined = this.#writer.directory.members.get(publicKey)
    return member ? `${member.role}/${member.name}` : publicKey
  }
}
