// One phone: a JsSIP user agent with the commands that the tests give it.  `phone` is what the driver calls; `tell` is the driver's.

import JsSIP from "jssip";
import { Ear, Eye, digest, source } from "./media.js";

const PEER = { iceServers: [] };

let ua, mine, session; // `session`: the latest call
const calls = new Map(); // by the number that its events carry

function say(event, data = {}) {
    document.getElementById("log").textContent += `${new Date().toISOString().slice(11, 23)} ${event} ${JSON.stringify(data)}\n`;
    window.tell(event, data);
}

function chosen(call) {
    const found = call === undefined ? session : calls.get(call);
    if (!found) throw new Error("there is no such call");
    return found;
}

/** Ears and eye for what arrives on a connection. */
function attend(connection, state) {
    connection.addEventListener("track", ({ track }) => {
        if (track.kind === "audio") state.ear = new Ear(track);
        else state.eye = new Eye(track);
        say("track", { kind: track.kind });
    });
    connection.addEventListener("iceconnectionstatechange", () => say("ice", { state: connection.iceConnectionState }));
    connection.addEventListener("connectionstatechange", () => say("connection", { state: connection.connectionState }));
}

function watch(call, outgoing) {
    const id = calls.size + 1;
    session = { id, call, ear: null, eye: null };
    calls.set(id, session);
    const state = session;
    const on = (event, data) => call.on(event, (e) => say(event, { call: id, ...data?.(e) }));
    const how = (e) => ({ by: e.originator, cause: e.cause, status: e.message?.status_code, reason: e.message?.getHeader?.("Reason") });
    on("progress", (e) => ({ by: e.originator, status: e.response?.status_code }));
    on("accepted");
    on("confirmed");
    on("ended", how);
    on("failed", how);
    on("hold", (e) => ({ by: e.originator }));
    on("unhold", (e) => ({ by: e.originator }));
    on("reinvite");
    on("update");
    on("newDTMF", (e) => ({ by: e.originator, digit: e.dtmf.tone }));
    on("newInfo", (e) => ({ by: e.originator, body: e.info.body }));
    on("getusermediafailed");
    call.on("icecandidate", ({ ready }) => { if (moving) ready(); }); // an ICE-lite peer needs none of them, and gathering may take 2 s
    for (const what of ["createofferfailed", "createanswerfailed", "setlocaldescriptionfailed", "setremotedescriptionfailed"])
        call.on(`peerconnection:${what}`, (error) => say("trouble", { call: id, what, error: String(error) }));
    call.on("sdp", (e) => console.debug(`${e.originator} ${e.type} ${JSON.stringify(e.sdp)}`));
    if (call.connection) attend(call.connection, state);
    else call.on("peerconnection", ({ peerconnection }) => attend(peerconnection, state));
    if (!outgoing) {
        const offer = call._request?.body ?? "";
        say("incoming", { call: id, from: call.remote_identity.uri.toString(), name: call.remote_identity.display_name, video: /^m=video [1-9]/m.test(offer) });
    }
    return id;
}

const command = {
    /** What this phone sends from now on, and whether it moves its call to a new network by itself. */
    setup({ name, tone, colour, roams }) {
        mine = { tone, colour, roams };
        if (roams) guard();
        document.getElementById("name").textContent = `${name}: ${tone} Hz, ${colour}`;
    },

    register({ server, uri, user, password, expires = 600, register = true }) {
        ua = new JsSIP.UA({
            sockets: [new JsSIP.WebSocketInterface(server)],
            uri, authorization_user: user, password, register, register_expires: expires, session_timers: true,
            connection_recovery_min_interval: 1, connection_recovery_max_interval: 2,
        });
        ua.on("connected", () => say("connected"));
        ua.on("disconnected", (e) => say("disconnected", { code: e.code, reason: e.reason }));
        ua.on("registered", (e) => say("registered", { expires: e.response?.getHeader("Contact") }));
        ua.on("unregistered", () => say("unregistered"));
        ua.on("registrationFailed", (e) => say("registrationFailed", { cause: e.cause, status: e.response?.status_code }));
        ua.on("newRTCSession", (e) => { if (e.originator === "remote") watch(e.session, false); });
        ua.on("newMessage", (e) => { if (e.originator === "remote") say("message", { body: e.request.body }); });
        ua.start();
    },

    unregister: () => ua.unregister(),
    stop: () => ua.stop(),

    call({ target, video = false }) {
        const call = new JsSIP.RTCSession(ua);
        const id = watch(call, true);
        session.video = video;
        call.connect(target, {
            mediaStream: source({ ...mine, video }), pcConfig: PEER, mediaConstraints: { audio: true, video },
            rtcOfferConstraints: { offerToReceiveAudio: true, offerToReceiveVideo: video },
        });
        return id;
    },

    answer({ call, video = false } = {}) {
        chosen(call).call.answer({
            mediaStream: source({ ...mine, video }), pcConfig: PEER, mediaConstraints: { audio: true, video },
        });
    },

    /** Ends, cancels or refuses, as the call stands. */
    hangup({ call, status } = {}) {
        chosen(call).call.terminate(status ? { status_code: status } : {});
    },

    hold: ({ call } = {}) => chosen(call).call.hold(),
    resume: ({ call } = {}) => chosen(call).call.unhold(),
    mute: ({ call, ...what } = {}) => chosen(call).call.mute({ audio: true, ...what }),
    unmute: ({ call, ...what } = {}) => chosen(call).call.unmute({ audio: true, ...what }),

    dtmf({ call, digits, info = false }) {
        chosen(call).call.sendDTMF(digits, { transportType: info ? "INFO" : "RFC2833", duration: 120, interToneGap: 120 });
    },

    /** What an app does when its network has changed: a new connection to the switch, then on it new ICE credentials. */
    async moved({ call } = {}) {
        ua._transport.disconnect(); // Chromium keeps a WebSocket whose link is gone, and JsSIP waits for it
        while (!ua.isConnected()) {
            ua._transport.connect(); // which fails as long as the new network has no route; JsSIP itself waits for a second then
            await new Promise((done) => setTimeout(done, 50));
        }
        return chosen(call).call.renegotiate({ rtcOfferConstraints: { iceRestart: true } });
    },

    /** Adds our picture to a call that had none, or takes it away again, by a re-INVITE. */
    video({ call, on = true } = {}) {
        const { call: it } = chosen(call);
        const { connection } = it;
        if (on) for (const track of source({ ...mine, video: true }).getVideoTracks()) connection.addTrack(track);
        else for (const t of connection.getTransceivers()) if (t.sender.track?.kind === "video") t.stop();
        return it.renegotiate({});
    },

    stats: ({ call } = {}) => digest(chosen(call).call.connection),
    heard: ({ call, tone, since = 0, least = 0.5 }) => chosen(call).ear?.heard(tone, since, least) ?? 0,
    loudness: ({ call, since = 0 } = {}) => chosen(call).ear?.loudness(since) ?? 0,
    gap: ({ call, tone, since }) => chosen(call).ear?.gap(tone, since) ?? 1e9,
    bounds: ({ call, tone, since }) => chosen(call).ear?.bounds(tone, since) ?? null,
    seen: ({ call } = {}) => chosen(call).eye?.seen() ?? { frames: 0, colour: [0, 0, 0] },
    flow: ({ call, since }) => chosen(call).eye?.flow(since) ?? null,
    descriptions({ call } = {}) {
        const { connection } = chosen(call).call;
        return { local: connection.localDescription?.sdp, remote: connection.remoteDescription?.sdp };
    },

    // Without SIP: the description goes through the driver.

    async offer({ video = false }) {
        return describe(await bare({ video }).createOffer());
    },

    async accept({ offer, video = false }) {
        const connection = bare({ video });
        await connection.setRemoteDescription({ type: "offer", sdp: offer });
        return describe(await connection.createAnswer());
    },

    answered: ({ answer }) => session.call.connection.setRemoteDescription({ type: "answer", sdp: answer }),
};

// A roaming phone moves its call when the browser says that it is online again, and when nothing has come in for a while: of a spare
// network that takes over Chromium tells its page nothing.

const SILENCE = 400; // milliseconds

let moving = false;

async function move() {
    if (moving || !mine?.roams || !session?.call.isEstablished?.()) return;
    moving = true;
    say("moving");
    await command.moved().catch((error) => say("trouble", { error: String(error) }));
    setTimeout(() => { moving = false; }, 3000); // Chromium may need two seconds to find a new network's address
}

window.addEventListener("offline", () => say("offline"));
window.addEventListener("online", () => { say("online"); move(); });

function guard() {
    let packets = 0, since = Date.now();
    setInterval(async () => {
        const connection = session?.call.connection;
        if (!connection) return;
        const received = (await digest(connection)).received.reduce((sum, s) => sum + s.packets, 0);
        if (received !== packets || received === 0) [packets, since] = [received, Date.now()];
        else if (Date.now() - since > SILENCE) move();
    }, 100);
}

function bare({ video }) {
    const connection = new RTCPeerConnection(PEER);
    session = { id: 1, call: { connection }, ear: null, eye: null };
    calls.set(1, session);
    attend(connection, session);
    const stream = source({ ...mine, video });
    for (const track of stream.getTracks()) connection.addTrack(track, stream);
    return connection;
}

async function describe(description) {
    const { connection } = session.call;
    await connection.setLocalDescription(description);
    while (connection.iceGatheringState !== "complete")
        await new Promise((done) => connection.addEventListener("icegatheringstatechange", done, { once: true }));
    return connection.localDescription.sdp;
}

window.phone = (name, given) => command[name](given ?? {});
