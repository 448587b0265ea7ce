"""Trains a small convolutional net on scikit-learn's digits, and exports it for any number of rows."""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch.manual_seed(7)
torch.set_num_threads(1)  # More do not pay for a net this small.
digits = load_digits()
pictures = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(digits.target)
x_train, x_test, y_train, y_test = train_test_split(pictures, labels, test_size=0.3, random_state=7)

net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.ReLU(),
    torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(256, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(20):
    for rows in torch.randperm(len(x_train)).split(32):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x_train[rows] / 16), y_train[rows]).backward()
        optimizer.step()


class Digits(torch.nn.Module):
    """Pixels of 0 to 16 in, chances of ten digits out."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixels):
        return self.net(pixels / 16).softmax(-1)


model = Digits(net).eval()
with torch.inference_mode():
    right = (model(x_test).argmax(1) == y_test).float().mean()
print(f"held-out accuracy {right:.4f}")
program = torch.export.export(model, (x_test[:2],), dynamic_shapes=({0: torch.export.Dim("rows")},))
torch.export.save(program, Path(sys.argv[1]) / "model.pt2")
