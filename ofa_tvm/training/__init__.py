"""Training a supernet by progressive shrinking: data, distillation, phases, and accuracy of its subnets."""
