// A client of CAS for web pages: fetch for requests, a WebSocket for events that it takes up again after a break, without loss.
// The page's origin must be one of sip.origins, or the switch's own.
//
//   const cas = await Cas.login("https://switch.example:8443", "ann", "secret");
//   cas.onEvent = (event) => console.log(event.topic, event.message, event.body);
//   await cas.ask("tel", "hold", { call });

"use strict";

class Cas {
    static async login(base, user, password) {
        const cas = new Cas(base);
        const granted = await cas.ask("login", "login", { user, password, application: "client.js" });
        cas.#granted(granted);
        cas.#follow();
        return cas;
    }

    // Goes on with the login of a page that was loaded anew; sessionStorage is a place for `token`, which changes.
    static async resume(base, token) {
        const cas = new Cas(base);
        cas.#token = token;
        cas.#granted(await cas.ask("login", "refresh"));
        cas.#follow();
        return cas;
    }

    onEvent = () => {};
    onToken = () => {};
    get token() { return this.#token; }
    #base; #token; #number = 0; #last = 0; #socket; #over = false; #pause = 100;
    #waiting = new Map(); #early = new Map(); // final replies that come as events, by their pending-id

    constructor(base) {
        this.#base = base;
    }

    // Sends a request and waits for the final reply; refusals are errors that have the reply's body.
    async ask(topic, message, body = {}) {
        const number = ++this.#number;
        const request = { topic, message, timestamp: Date.now(), "sequence-id": number, "request-id": number, body };
        const headers = { "Content-Type": "application/json", Prefer: "wait=20" };
        if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
        const answer = await fetch(`${this.#base}/cas`, { method: "POST", headers, body: JSON.stringify(request) });
        let reply = await answer.json();
        if (reply.response === 202) reply = await this.#final(reply["pending-id"]);
        if (reply.response >= 400) throw Object.assign(new Error(reply.body.detail), reply.body);
        return reply.body;
    }

    async logout() {
        this.#over = true;
        this.#socket?.close();
        await this.ask("login", "logout");
    }

    // What takes longer than the request waits is answered by an event, which may come before this is asked.
    #final(id) {
        const early = this.#early.get(id);
        this.#early.delete(id);
        return early ?? new Promise((done) => this.#waiting.set(id, done));
    }

    #granted({ token, "expires-in": seconds }) {
        this.#token = token;
        this.onToken(token);
        setTimeout(async () => this.#over || this.#granted(await this.ask("login", "refresh")), seconds * 800);
    }

    #follow() {
        const url = `${this.#base.replace(/^http/, "ws")}/cas/events?after=${this.#last}`;
        this.#socket = new WebSocket(url, ["cas", `token.${this.#token}`]);
        this.#socket.onopen = () => { this.#pause = 100; };
        this.#socket.onmessage = ({ data }) => {
            const event = JSON.parse(data);
            this.#last = event["sequence-id"]; // the next connection goes on behind it
            const id = event["pending-id"];
            if (id === undefined) return this.onEvent(event);
            const waiting = this.#waiting.get(id);
            this.#waiting.delete(id);
            if (waiting) waiting(event);
            else this.#early.set(id, event);
        };
        this.#socket.onclose = ({ code }) => {
            if (this.#over || code === 4401) return;
            setTimeout(() => this.#follow(), this.#pause);
            this.#pause = Math.min(this.#pause * 2, 10000);
        };
    }
}

if (typeof module !== "undefined") module.exports = { Cas };
