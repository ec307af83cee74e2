// A phone in a web page without SIP: CAS for the calls, RTCPeerConnection for the media. Needs client.js.
//
//   const phone = await Phone.open("https://switch.example:8443", "ann", "secret", "page");
//   phone.onRing = (call) => phone.answer(call.id, stream);
//   const call = await phone.call("501", stream);      // a MediaStream to send
//   call.connection.ontrack = ({ track }) => …         // what the other side sends
//   await phone.hangUp(call.id);
//
// A page that is loaded anew within 15 seconds keeps its calls: Phone.resume(base, token, "page", stream), with what `phone.cas.token` was.

"use strict";

class Phone {
    // Signs in and becomes a device of the user, the same one at each visit with the same name.
    static async open(base, user, password, name) {
        return new Phone(await Cas.login(base, user, password)).#register(name);
    }

    // Goes on with the login and the calls of the page that was here before.
    static async resume(base, token, name, stream) {
        const phone = await new Phone(await Cas.resume(base, token)).#register(name);
        const { calls } = await phone.cas.ask("tel", "list");
        for (const { id, state, parties } of calls.filter((call) => phone.#mine(call.parties))) {
            if (!phone.#mine(parties).media?.length) continue; // it rings: the switch describes it when it is answered
            phone.#note(id, { state, connection: phone.#connection(stream) });
            await phone.offer(id);
        }
        return phone;
    }

    async #register(name) {
        this.cas.onEvent = ({ topic, message, body }) => topic === "tel" && this.#told(message, body);
        this.device = (await this.cas.ask("tel", "register", { device: name })).device;
        return this;
    }

    // What this device carries in a call, if it is in it.
    #mine(parties) {
        return parties.flatMap(({ devices = [] }) => devices).find(({ device }) => device === this.device);
    }

    onRing = () => {}; // somebody calls, or a call is moved here: answer or decline
    onCall = () => {}; // a call changed: its id, its state, its connection
    calls = new Map(); // by number; each has its id, and its connection once there is one
    #ended = []; // calls of which nothing else is known, the last few

    constructor(cas) {
        this.cas = cas;
    }

    // Calls; done when the other side has answered. `more`: what else make-call may have, as `guided`.
    async call(destination, stream, more = {}) {
        const connection = this.#connection(stream);
        const sdp = await this.#describe(connection, await connection.createOffer());
        const { call, sdp: answer } = await this.cas.ask("tel", "make-call", { destination, sdp, ...more });
        await connection.setRemoteDescription({ type: "answer", sdp: answer });
        const mine = this.#note(call.id, { state: call.state, connection });
        // its end may have been told before its answer came here: they take different ways
        if (this.#ended.includes(call.id)) this.#changed("ended", { id: call.id, state: "ended" });
        return mine;
    }

    async answer(id, stream) {
        const call = this.calls.get(id);
        const connection = this.#connection(stream);
        if (call.offer) {
            await connection.setRemoteDescription({ type: "offer", sdp: call.offer });
            await this.#say(id, "answer", await this.#describe(connection, await connection.createAnswer()));
        } else { // the switch asked for an offer
            const { sdp } = await this.#say(id, "offer", await this.#describe(connection, await connection.createOffer()));
            await connection.setRemoteDescription({ type: "answer", sdp });
        }
        this.#note(id, { connection });
    }

    decline = (id) => this.#say(id, "rollback");
    hangUp = (id) => this.cas.ask("tel", "drop", { call: id });

    // After a change of the connection (a track more or less, restartIce): offers it to the switch. Where the switch offers at the same
    // time its offer comes first, and this one is refused with `not-now`.
    async offer(id) {
        const { connection } = this.calls.get(id);
        const { sdp } = await this.#say(id, "offer", await this.#describe(connection, await connection.createOffer()));
        await connection.setRemoteDescription({ type: "answer", sdp });
    }

    #say(call, type, sdp) {
        return this.cas.ask("tel", "negotiate", { call, type, sdp });
    }

    #connection(stream) {
        const connection = new RTCPeerConnection();
        for (const track of stream.getTracks()) connection.addTrack(track, stream);
        return connection;
    }

    // No need to wait for candidates: the switch has one address, and answers whoever checks it.
    async #describe(connection, description) {
        await connection.setLocalDescription(description);
        return connection.localDescription.sdp;
    }

    #note(id, news) {
        const call = Object.assign(this.calls.get(id) ?? { id }, news);
        this.calls.set(id, call);
        this.onCall(call);
        return call;
    }

    async #told(message, body) {
        if (message !== "sdp") return this.#moved(message, body.call) || this.#changed(message, body.call);
        const known = this.calls.get(body.call);
        if (body.type === "rollback") { // somebody else answered, the caller gave up, or the change is off
            if (known?.connection?.signalingState === "have-remote-offer") await known.connection.setRemoteDescription({ type: "rollback" });
            else if (known && !known.connection) this.#changed("ended", { id: body.call, state: "ended" });
        } else if (body.type === "offer" && known?.connection) { // something changes on the other side
            await known.connection.setRemoteDescription({ type: "offer", sdp: body.sdp });
            await this.#say(body.call, "answer", await this.#describe(known.connection, await known.connection.createAnswer()));
        } else if (body.type === "offer" || body.type === "request") {
            this.onRing(this.#note(body.call, { offer: body.sdp }));
        }
    }

    // A call may become part of another one, and go on there; and it may go to another device. Returns whether it did.
    #moved(message, { id, joined, parties }) {
        const call = this.calls.get(id);
        if (!call?.connection) return false;
        if (message === "ended" && joined) {
            // at once: what the switch describes from now on is about the other one
            this.calls.delete(id);
            this.calls.set(joined, Object.assign(call, { id: joined }));
            const goesOnWithoutUs = () => this.#changed("ended", { id: joined, state: "ended" });
            this.cas.ask("tel", "show", { call: joined }).then(({ call: { state } }) => this.#note(joined, { state }), goesOnWithoutUs);
            return true;
        }
        if (message !== "changed" || this.#mine(parties)) return false;
        this.#changed("ended", { id, state: "elsewhere" });
        return true;
    }

    #changed(message, { id, state }) {
        const call = this.calls.get(id);
        if (!call) {
            if (message === "ended") this.#ended = [...this.#ended.slice(-7), id];
            return;
        }
        if (message === "ended") {
            call.connection?.close();
            this.calls.delete(id);
        }
        Object.assign(call, { state });
        this.onCall(call);
    }
}

if (typeof module !== "undefined") module.exports = { Phone };
