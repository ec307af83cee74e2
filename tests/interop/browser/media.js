// What a phone sends (a tone, a picture of one colour that moves) and what it hears and sees.  Knows nothing of SIP.

const BLOCK = 0.02; // seconds; every tone used is a multiple of 50 Hz, so that a block holds whole periods
const KEPT = 6000; // blocks an ear remembers: two minutes; then it forgets the oldest
const RATE = 48000;

let context;

function audio() {
    context ??= new AudioContext({ sampleRate: RATE });
    return context;
}

/** A stream with an endless tone and, with a colour, a picture of it. */
export function source({ tone, colour, video }) {
    const out = audio().createMediaStreamDestination();
    const oscillator = new OscillatorNode(audio(), { frequency: tone });
    const gain = new GainNode(audio(), { gain: 0.5 });
    oscillator.connect(gain).connect(out);
    oscillator.start();
    const stream = new MediaStream(out.stream.getTracks());
    if (video) for (const track of picture(colour).getVideoTracks()) stream.addTrack(track);
    return stream;
}

let drawn;

/** 320x240 of one colour with a white bar that wanders, so that every frame differs. */
function picture(colour) {
    const canvas = document.getElementById("sent");
    const pen = canvas.getContext("2d");
    let frame = 0;
    const draw = () => {
        pen.fillStyle = colour;
        pen.fillRect(0, 0, canvas.width, canvas.height);
        pen.fillStyle = "#fff";
        pen.fillRect((frame++ * 4) % canvas.width, 200, 8, 40);
    };
    clearInterval(drawn);
    draw();
    drawn = setInterval(draw, 66);
    return canvas.captureStream(15);
}

const WORKLET = `
registerProcessor("ear", class extends AudioWorkletProcessor {
    block = new Float32Array(${RATE * BLOCK});
    filled = 0;
    process([[samples]]) {
        for (const sample of samples ?? new Float32Array(128)) {
            this.block[this.filled++] = sample;
            if (this.filled === this.block.length) { this.port.postMessage(this.block.slice()); this.filled = 0; }
        }
        return true;
    }
});`;

let worklet;

/** Listens to one track, in blocks that keep the moment they ended. */
export class Ear {
    blocks = [];

    constructor(track) {
        const stream = new MediaStream([track]);
        this.player = new Audio(); // a remote stream reaches Web Audio only while an element plays it
        this.player.srcObject = stream;
        this.player.play().catch(() => {});
        this.listen(stream);
    }

    async listen(stream) {
        worklet ??= audio().audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
        await worklet;
        const node = new AudioWorkletNode(audio(), "ear", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
        node.port.onmessage = ({ data }) => {
            this.blocks.push({ at: Date.now(), samples: data });
            if (this.blocks.length > KEPT) this.blocks.shift();
        };
        audio().createMediaStreamSource(stream).connect(node);
    }

    after(since) {
        return this.blocks.filter((block) => block.at >= since);
    }

    /** Seconds since the moment `since` (milliseconds of the wall clock) in which `tone` has more than `least` of the power. */
    heard(tone, since, least) {
        return this.after(since).filter(({ samples }) => share(samples, tone) > least).length * BLOCK;
    }

    /** The longest time without `tone` since a moment, in seconds. */
    gap(tone, since) {
        const heard = this.after(since).filter(({ samples }) => share(samples, tone) > 0.5).map((block) => block.at);
        const at = [since, ...heard, Date.now()];
        return Math.max(...at.slice(1).map((t, i) => t - at[i])) / 1000;
    }

    /** When `tone` was first and last heard since a moment, in milliseconds of the wall clock. */
    bounds(tone, since) {
        const heard = this.after(since).filter(({ samples }) => share(samples, tone) > 0.5).map((block) => block.at);
        return heard.length ? [heard[0] - BLOCK * 1000, heard.at(-1)] : null;
    }

    loudness(since) {
        return this.after(since).filter(({ samples }) => samples.some((s) => Math.abs(s) > 0.01)).length * BLOCK;
    }
}

/** The part of a block's power that is at `tone` (Goertzel): 0 to 1; silence has none of anything. */
function share(samples, tone) {
    const coefficient = 2 * Math.cos((2 * Math.PI * tone) / RATE);
    let before = 0, last = 0, power = 0;
    for (const s of samples) {
        power += s * s;
        [before, last] = [last, s + coefficient * last - before];
    }
    if (power < samples.length * 1e-5) return 0;
    return ((last * last + before * before - coefficient * last * before) * 2) / (samples.length * power);
}

/** Shows a video track and tells what is on it. */
export class Eye {
    frames = 0;
    times = []; // of the frames, milliseconds of the wall clock

    constructor(track) {
        this.element = document.getElementById("seen");
        this.element.srcObject = new MediaStream([track]);
        this.element.play().catch(() => {});
        const count = () => {
            this.frames++;
            this.times.push(Date.now());
            this.element.requestVideoFrameCallback(count);
        };
        this.element.requestVideoFrameCallback(count);
    }

    /** The first frame since a moment, and the longest time without one from then on; none without a frame. */
    flow(since) {
        const times = this.times.filter((at) => at >= since);
        return times.length ? { first: times[0], freeze: Math.max(0, ...times.slice(1).map((at, i) => at - times[i])) } : null;
    }

    /** Frames shown, their size, and the mean colour of the upper half. */
    seen() {
        const canvas = new OffscreenCanvas(32, 24);
        const pen = canvas.getContext("2d", { willReadFrequently: true });
        pen.drawImage(this.element, 0, 0, 32, 24);
        const pixels = pen.getImageData(4, 2, 24, 10).data;
        const mean = [0, 0, 0];
        pixels.forEach((value, i) => { if (i % 4 < 3) mean[i % 4] += value / (pixels.length / 4); });
        return { frames: this.frames, width: this.element.videoWidth, height: this.element.videoHeight, colour: mean.map(Math.round) };
    }
}

/** The part of getStats that tests ask for. */
export async function digest(connection) {
    const all = [...(await connection.getStats()).values()];
    const by = Object.fromEntries(all.map((s) => [s.id, s]));
    const streams = (type) => all.filter((s) => s.type === type).map((s) => ({
        kind: s.kind, mid: s.mid, ssrc: s.ssrc, codec: by[s.codecId]?.mimeType,
        packets: s.packetsReceived ?? s.packetsSent, bytes: s.bytesReceived ?? s.bytesSent,
        lost: s.packetsLost, jitter: s.jitter, frames: s.framesDecoded ?? s.framesEncoded,
        nack: s.nackCount, pli: s.pliCount, concealed: s.concealedSamples,
    }));
    const transport = all.find((s) => s.type === "transport") ?? {};
    const pair = by[transport.selectedCandidatePairId];
    const end = (id) => by[id] && `${by[id].candidateType} ${by[id].address}:${by[id].port}`;
    return {
        received: streams("inbound-rtp"), sent: streams("outbound-rtp"),
        ice: connection.iceConnectionState, dtls: transport.dtlsState, srtp: transport.srtpCipher,
        pair: pair && { local: end(pair.localCandidateId), remote: end(pair.remoteCandidateId), rtt: pair.currentRoundTripTime },
        pairs: all.filter((s) => s.type === "candidate-pair").map((s) => ({
            local: end(s.localCandidateId), remote: end(s.remoteCandidateId), state: s.state, nominated: s.nominated,
        })),
    };
}
