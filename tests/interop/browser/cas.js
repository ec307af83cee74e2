// A client of CAS with what every browser has: `fetch` for requests, a WebSocket for events.  `tell` gets each event, in order.

export class Client {
    #token;
    #number = 0;

    /** `base` is the switch's web address, such as http://127.0.0.1:8443. */
    constructor(base, tell) {
        this.base = base;
        this.tell = tell;
        this.last = 0; // the number of the last event
    }

    async login(user, password) {
        const granted = await this.ask("login", "login", { user, password, application: "page" });
        this.#token = granted.token;
        this.socket = new WebSocket(`${this.base.replace(/^http/, "ws")}/cas/events`, ["cas", `token.${granted.token}`]);
        this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
        await new Promise((done, fail) => { this.socket.onopen = done; this.socket.onerror = () => fail(new Error("no WebSocket")); });
        return granted.user;
    }

    /** Sends a request; the reply's body, or an error with what the switch says. */
    async ask(topic, message, body = {}) {
        const number = ++this.#number;
        const request = { topic, message, timestamp: Date.now(), "sequence-id": number, "request-id": number, body };
        const headers = { "content-type": "application/json", accept: "application/json", prefer: "wait=20" };
        if (this.#token) headers.authorization = `Bearer ${this.#token}`;
        const answer = await fetch(`${this.base}/cas`, { method: "POST", headers, body: JSON.stringify(request) });
        const reply = await answer.json();
        if (reply.response !== 0) throw new Error(`${topic}.${message}: ${reply.response} ${reply.body?.error}: ${reply.body?.detail}`);
        return reply.body;
    }

    #take(event) {
        const number = event["sequence-id"];
        if (number !== this.last + 1) this.tell("trouble", { what: `event ${number} came after ${this.last}` });
        this.last = number;
        this.tell(`${event.topic}.${event.message}`, event.body);
    }
}
