// Cases of gRPC's interoperability tests with grpc-js: node interop_calls.js PORT DESCRIPTORS; prints one line a case.
const assert = require("assert");
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [port, descriptors] = process.argv.slice(2);
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), { keepCase: true });
const { TestService } = grpc.loadPackageDefinition(definition).grpc.testing;
const client = new TestService(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
const options = (seconds = 20) => ({ deadline: Date.now() + seconds * 1000 });
const sizes = [31415, 9, 2653, 58979];
const output = (size, pause = 0) => ({ response_parameters: [{ size, interval_us: pause }] });

function unary(method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const found = {};
    const call = client[method](request, metadata, options(), (error, answer) => {
      Object.assign(found, { error, answer });
    });
    call.on("metadata", (initial) => (found.initial = initial));
    call.on("status", (status) => resolve(Object.assign(found, { status })));
  });
}

function collect(call) {
  return new Promise((resolve) => {
    const found = { answers: [] };
    call.on("data", (answer) => found.answers.push(answer.payload.body.length));
    call.on("error", () => {});
    call.on("status", (status) => resolve(Object.assign(found, { status })));
  });
}

const cases = {
  async empty_unary() {
    assert.ifError((await unary("EmptyCall", {})).error);
  },
  async large_unary() {
    const { answer } = await unary("UnaryCall", { response_size: 314159, payload: { body: Buffer.alloc(271828) } });
    assert.equal(answer.payload.body.length, 314159);
  },
  async client_streaming() {
    const answer = await new Promise((resolve, reject) => {
      const call = client.StreamingInputCall(options(), (error, found) => (error ? reject(error) : resolve(found)));
      for (const size of [27182, 8, 1828, 45904]) call.write({ payload: { body: Buffer.alloc(size) } });
      call.end();
    });
    assert.equal(answer.aggregated_payload_size, 74922);
  },
  async server_streaming() {
    const request = { response_parameters: sizes.map((size) => ({ size })) };
    assert.deepEqual((await collect(client.StreamingOutputCall(request, options()))).answers, sizes);
  },
  async ping_pong() {
    const call = client.FullDuplexCall(options());
    const found = collect(call);
    let sent = 0;
    call.on("data", () => (++sent < sizes.length ? call.write(output(sizes[sent])) : call.end()));
    call.write(output(sizes[0]));
    assert.deepEqual((await found).answers, sizes);
  },
  async empty_stream() {
    const call = client.FullDuplexCall(options());
    call.end();
    assert.deepEqual((await collect(call)).status.code, grpc.status.OK);
  },
  async timeout_on_sleeping_server() {
    const call = client.FullDuplexCall(options(0.1));
    call.write(output(31415, 1000000));
    assert.equal((await collect(call)).status.code, grpc.status.DEADLINE_EXCEEDED);
  },
  async cancel_after_first_response() {
    const call = client.FullDuplexCall(options());
    call.on("data", () => call.cancel());
    call.write(output(31415));
    assert.equal((await collect(call)).status.code, grpc.status.CANCELLED);
  },
  async custom_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("x-grpc-test-echo-initial", "test_initial_metadata_value");
    metadata.set("x-grpc-test-echo-trailing-bin", Buffer.from("ababab", "hex"));
    const { initial, status } = await unary("UnaryCall", { response_size: 1 }, metadata);
    assert.deepEqual(initial.get("x-grpc-test-echo-initial"), ["test_initial_metadata_value"]);
    assert.deepEqual(status.metadata.get("x-grpc-test-echo-trailing-bin"), [Buffer.from("ababab", "hex")]);
  },
  async special_status_message() {
    const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    const { status } = await unary("UnaryCall", { response_status: { code: 2, message } });
    assert.deepEqual([status.code, status.details], [2, message]);
  },
  async unimplemented_method() {
    assert.equal((await unary("UnimplementedCall", {})).status.code, grpc.status.UNIMPLEMENTED);
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run();
      console.log("passed", name);
    } catch (failed) {
      console.log("failed", name, String(failed).slice(0, 200));
      process.exitCode = 1;
    }
  }
  client.close();
})();
