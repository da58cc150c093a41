// The channel to the server and the login on it.

import { credentials, Client, Metadata, status } from "@grpc/grpc-js";
import type { CallOptions, ClientDuplexStream, ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import { HANDSHAKE } from "./wire.js";

export interface Login {
  readonly user: string;
  readonly password: string;
  /** The certificates, as PEM, that `grpc+tls://` believes; without them those of Node.js. */
  readonly rootCertificates?: Buffer;
}

/** User or password is wrong; asking again won't help. */
export class LoginRefused extends Error {
  override readonly name = "LoginRefused";
  readonly code = status.UNAUTHENTICATED;
}

/** Whether the error is one that the server or gRPC gave a call. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === "number";
}

const LOGIN_SECONDS = 20;
const LONGEST_MESSAGE = 72 * 1024 * 1024; // a row may be 64 MiB
const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export class Connection {
  readonly #client: Client;
  readonly #login: Login;
  readonly #ends = new Set<() => void>();
  #token: Promise<string> | undefined;
  #session = 0;

  /** `url`: `grpc://host:port`, or `grpc+tls://host:port`. Nothing is sent yet. */
  constructor(url: string, login: Login) {
    const { protocol, host } = new URL(url);
    const secure = protocol === "grpc+tls:";
    if (!secure && protocol !== "grpc:") throw new TypeError(`${url} is no grpc:// or grpc+tls:// URL.`);
    this.#login = login;
    this.#client = new Client(
      host,
      secure ? credentials.createSsl(login.rootCertificates) : credentials.createInsecure(),
      {
        // How long to wait before the next try is a subscription's own business.
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.max_receive_message_length": LONGEST_MESSAGE,
      },
    );
  }

  /** A call to which many messages go and from which many come. */
  async duplex(method: string): Promise<ClientDuplexStream<Uint8Array, Buffer>> {
    return this.#quiet(this.#client.makeBidiStreamRequest(method, asIs, asIs, await this.#headers()));
  }

  /** A call that is answered by many messages. */
  async stream(method: string, request: Buffer): Promise<ClientReadableStream<Buffer>> {
    return this.#quiet(this.#client.makeServerStreamRequest(method, asIs, asIs, request, await this.#headers()));
  }

  /** Logs in, unless that has been done. Throws LoginRefused, or the call's error. */
  async login(): Promise<void> {
    await this.#bearer();
  }

  /** Which login the calls are made under. */
  get session(): number {
    return this.#session;
  }

  /** The server no longer believes the token of that login: the next call logs in anew, unless another has already. */
  logout(session: number): void {
    if (session === this.#session) this.#token = undefined;
  }

  /** `end` is called when the connection is closed; call what comes back once that is no longer wanted. */
  onClose(end: () => void): () => void {
    this.#ends.add(end);
    return () => this.#ends.delete(end);
  }

  close(): void {
    for (const end of this.#ends) end();
    this.#client.close();
  }

  async #headers(): Promise<Metadata> {
    const headers = new Metadata();
    headers.set("authorization", await this.#bearer());
    headers.set("x-compression", "none"); // apache-arrow brings no codec
    return headers;
  }

  /** One login for all calls that wait for it. */
  #bearer(): Promise<string> {
    if (!this.#token) {
      this.#session += 1;
      const token = this.#handshake();
      token.catch(() => {
        if (this.#token === token) this.#token = undefined;
      });
      this.#token = token;
    }
    return this.#token;
  }

  #handshake(): Promise<string> {
    const { user, password } = this.#login;
    const headers = new Metadata();
    headers.set("authorization", `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`);
    const options: CallOptions = { deadline: Date.now() + 1_000 * LOGIN_SECONDS };
    const call = this.#client.makeBidiStreamRequest(HANDSHAKE, asIs, asIs, headers, options);
    return new Promise((resolve, reject) => {
      call.on("metadata", (answer: Metadata) => {
        const [bearer] = answer.get("authorization");
        if (bearer !== undefined) resolve(bearer.toString());
      });
      call.on("error", (error: ServiceError) => {
        reject(error.code === status.UNAUTHENTICATED ? new LoginRefused(error.details) : error);
      });
      call.on("end", () => reject(new Error("The server's handshake brought no token.")));
      call.resume();
      call.end();
    });
  }

  /** A stream that nobody reads any more may still fail, which then is nobody's concern. */
  #quiet<S extends { on(event: "error", listener: () => void): unknown }>(call: S): S {
    call.on("error", () => undefined);
    return call;
  }
}
